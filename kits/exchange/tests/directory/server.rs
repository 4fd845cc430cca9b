//! A small directory for the kit's tests: binds, searches in pages, changes.
//!
//! It knows RFC 4511 and RFC 2696 as far as a server has to for the kit, and shares nothing with the kit's own code but
//! the BER below both. What it does wrong, it does because a test says so. A real one is asked in `tests/e2e`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use ldap3_lber::common::TagClass;
use ldap3_lber::parse::Parser;
use ldap3_lber::structure::{PL, StructureTag};
use mainstay_sdk::testing::{Answer, FakeHost};

pub(crate) const USER: &str = "mainstay@corp.test";
pub(crate) const PASSWORD: &str = "secret";
pub(crate) const BASE: &str = "DC=corp,DC=test";
pub(crate) const CONFIGURATION: &str = "CN=Configuration,DC=corp,DC=test";
const ORGANISATION: &str =
    "CN=Administrative Groups,CN=Corp,CN=Microsoft Exchange,CN=Services,CN=Configuration,DC=corp,DC=test";
pub(crate) const VERSION: &str = "Version 6.5 (Build 7638.2: Service Pack 2)";

pub(crate) const SUCCESS: i64 = 0;

/// What the kit asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Bind,
    StartTls,
    Search,
    Modify,
    Unbind,
}

/// What goes out for one request.
pub(crate) enum Sent {
    /// These messages.
    Messages(Vec<Vec<u8>>),
    /// Exactly this.
    Raw(Answer),
}

impl From<Vec<Vec<u8>>> for Sent {
    fn from(messages: Vec<Vec<u8>>) -> Self {
        Self::Messages(messages)
    }
}

impl From<Answer> for Sent {
    fn from(answer: Answer) -> Self {
        Self::Raw(answer)
    }
}

/// An object: its attributes by names in lower case.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) dn: String,
    pub(crate) attributes: BTreeMap<String, Vec<String>>,
}

/// What the directory holds, what it is like, and what came to it.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) objects: Vec<Object>,
    /// Pages that are longer are refused with sizeLimitExceeded.
    pub(crate) page_size_max: Option<i64>,
    /// Answers so many requests of a kind with this code, and then as ever.
    pub(crate) codes: Vec<(Asked, usize, i64)>,
    /// Objects that are not changed, with the code and the words for that.
    pub(crate) refuses: BTreeMap<String, (i64, String)>,
    /// Where else searches of the whole domain would have to be made.
    pub(crate) references: Vec<String>,
    /// A referral with codes that are no success.
    pub(crate) referral: Option<String>,
    /// How many requests of each kind came.
    pub(crate) counts: BTreeMap<&'static str, usize>,
    /// Named and not named: how long pages were asked for.
    pub(crate) page_sizes: Vec<i64>,
    /// Says nothing of itself.
    pub(crate) mute_root: bool,
    searches: Vec<Vec<Object>>,
}

type Behaviour = dyn FnMut(Asked, i64, Vec<Vec<u8>>) -> Sent;

/// The directory.
#[derive(Clone)]
pub(crate) struct Directory {
    state: Rc<RefCell<State>>,
    behaviour: Rc<RefCell<Box<Behaviour>>>,
}

impl Directory {
    /// One that has EX01 with two stores and `count` recipients in the first of them, and EX02 with the same stores, empty.
    pub(crate) fn new(count: usize) -> Self {
        let it =
            Self { state: Rc::default(), behaviour: Rc::new(RefCell::new(Box::new(|_, _, messages| messages.into()))) };
        for name in ["EX01", "EX02"] {
            it.add_server(name, VERSION);
            for store in ["Mailbox Store", "Board (closed)*"] {
                it.add_store(name, "First Storage Group", store);
            }
        }
        for n in 0..count {
            it.add_recipient(&format!("CN=User {n},OU=People,{BASE}"), "EX01", "Mailbox Store");
        }
        it
    }

    /// Another one with the same objects, as replicas have; what it does is its own.
    pub(crate) fn replica(&self) -> Self {
        let behaviour: Box<Behaviour> = Box::new(|_, _, messages| messages.into());
        Self { state: Rc::clone(&self.state), behaviour: Rc::new(RefCell::new(behaviour)) }
    }

    pub(crate) fn add(&self, dn: &str, attributes: &[(&str, &[&str])]) {
        let values = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        let attributes = attributes.iter().map(|(name, all)| (name.to_lowercase(), values(all))).collect();
        self.state.borrow_mut().objects.push(Object { dn: dn.to_owned(), attributes });
    }

    pub(crate) fn add_server(&self, name: &str, version: &str) {
        let legacy = legacy_dn(name);
        self.add(
            &server_dn(name),
            &[
                ("objectClass", &["top", "server", "msExchExchangeServer"]),
                ("cn", &[name]),
                ("serialNumber", &[version]),
                ("legacyExchangeDN", &[&legacy]),
            ],
        );
        self.add(&agent_dn(name), &[("objectClass", &["top", "mTA"]), ("cn", &["Microsoft MTA"])]);
    }

    pub(crate) fn add_store(&self, server: &str, group: &str, store: &str) {
        let dn = format!("CN={store},CN={group},CN=InformationStore,{}", server_dn(server));
        self.add(&dn, &[("objectClass", &["top", "msExchMDB", "msExchPrivateMDB"]), ("cn", &[store])]);
    }

    pub(crate) fn add_recipient(&self, dn: &str, server: &str, store: &str) {
        let (mdb, mta, name) = (store_dn(server, store), agent_dn(server), legacy_dn(server));
        self.add(
            dn,
            &[
                ("objectClass", &["top", "person", "user"]),
                ("homeMDB", &[&mdb]),
                ("homeMTA", &[&mta]),
                ("msExchHomeServerName", &[&name]),
                ("allowedAttributesEffective", &["homeMDB", "homeMTA", "msExchHomeServerName"]),
            ],
        );
    }

    /// Takes an object away.
    pub(crate) fn remove(&self, dn: &str) {
        self.state.borrow_mut().objects.retain(|object| object.dn != dn);
    }

    /// Puts it at a host, with a password that is right.
    pub(crate) fn listen(&self, host: &FakeHost, at: &str, port: u16) {
        host.secret("directory", PASSWORD);
        let it = self.clone();
        host.tcp(at, port, move |written| {
            let mut answer = Answer::nothing();
            while let Some(length) = length(written).filter(|length| *length <= written.len()) {
                let message: Vec<u8> = written.drain(..length).collect();
                match it.answer(&message) {
                    Sent::Messages(messages) => answer = messages.into_iter().fold(answer, Answer::and),
                    Sent::Raw(raw) => return raw,
                }
            }
            answer
        });
    }

    /// Looks at what it is like, or changes it.
    pub(crate) fn set<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.borrow_mut())
    }

    /// Lets the test do something else with what would be sent.
    pub(crate) fn behave<S: Into<Sent>>(&self, mut behaviour: impl FnMut(Asked, i64, Vec<Vec<u8>>) -> S + 'static) {
        *self.behaviour.borrow_mut() = Box::new(move |asked, id, messages| behaviour(asked, id, messages).into());
    }

    /// How many requests of a kind came.
    pub(crate) fn count(&self, kind: &str) -> usize {
        self.state.borrow().counts.get(kind).copied().unwrap_or_default()
    }

    /// Home store, agent and server of a recipient.
    pub(crate) fn home(&self, dn: &str) -> [String; 3] {
        let state = self.state.borrow();
        let object = state.objects.iter().find(|object| object.dn == dn).expect("the recipient");
        ["homemdb", "homemta", "msexchhomeservername"].map(|name| object.attributes[name].join(" and "))
    }

    /// How many recipients have their home, in all three attributes, in a store.
    pub(crate) fn homed_at(&self, server: &str, store: &str) -> usize {
        let home = [store_dn(server, store), agent_dn(server), legacy_dn(server)];
        let recipients: Vec<String> = {
            let state = self.state.borrow();
            let with_home = state.objects.iter().filter(|object| object.attributes.contains_key("homemdb"));
            with_home.map(|object| object.dn.clone()).collect()
        };
        recipients.iter().filter(|dn| self.home(dn) == home).count()
    }

    /// How many recipients have their home store there, whatever else they name.
    pub(crate) fn stored_at(&self, server: &str, store: &str) -> usize {
        let store = store_dn(server, store);
        let state = self.state.borrow();
        state.objects.iter().filter(|object| object.attributes.get("homemdb") == Some(&vec![store.clone()])).count()
    }

    fn answer(&self, message: &[u8]) -> Sent {
        let (asked, id, messages) = self.state.borrow_mut().answer(message);
        (self.behaviour.borrow_mut())(asked, id, messages)
    }
}

pub(crate) fn server_dn(name: &str) -> String {
    format!("CN={name},CN=Servers,CN=First Administrative Group,{ORGANISATION}")
}

pub(crate) fn agent_dn(server: &str) -> String {
    format!("CN=Microsoft MTA,{}", server_dn(server))
}

pub(crate) fn store_dn(server: &str, store: &str) -> String {
    format!("CN={store},CN=First Storage Group,CN=InformationStore,{}", server_dn(server))
}

pub(crate) fn legacy_dn(server: &str) -> String {
    format!("/o=Corp/ou=First Administrative Group/cn=Configuration/cn=Servers/cn={server}")
}

impl State {
    fn answer(&mut self, message: &[u8]) -> (Asked, i64, Vec<Vec<u8>>) {
        let mut parts = parts(parse(message)).into_iter();
        let id = number(&parts.next().expect("a number"));
        let operation = parts.next().expect("an operation");
        let controls: Vec<StructureTag> = parts.next().map(self::parts).unwrap_or_default();
        let (asked, kind) = match operation.id {
            0 => (Asked::Bind, "bind"),
            2 => (Asked::Unbind, "unbind"),
            3 => (Asked::Search, "search"),
            6 => (Asked::Modify, "modify"),
            23 => (Asked::StartTls, "start-tls"),
            other => panic!("the kit sent the operation {other}"),
        };
        *self.counts.entry(kind).or_default() += 1;
        let code = self.codes.iter_mut().find(|(of, count, _)| *of == asked && *count > 0).map(|(_, count, code)| {
            *count -= 1;
            *code
        });
        let messages = match (asked, code) {
            (Asked::Unbind, _) => vec![],
            (_, Some(code)) => vec![self.result(id, operation.id + if operation.id == 3 { 2 } else { 1 }, code, "")],
            (Asked::Bind, None) => {
                let bind = self::parts(operation);
                let right = text(&bind[1]) == USER && bytes(&bind[2]) == PASSWORD.as_bytes();
                let words = "80090308: LdapErr: DSID-0C09041C, comment: AcceptSecurityContext error, data 52e, v4563\0";
                vec![if right { self.result(id, 1, SUCCESS, "") } else { self.result(id, 1, 49, words) }]
            }
            (Asked::StartTls, None) => {
                assert_eq!(bytes(&self::parts(operation)[0]), b"1.3.6.1.4.1.1466.20037");
                vec![self.result(id, 24, SUCCESS, "")]
            }
            (Asked::Search, None) => self.search(id, self::parts(operation), &controls),
            (Asked::Modify, None) => vec![self.modify(id, self::parts(operation))],
        };
        (asked, id, messages)
    }

    fn result(&self, id: i64, operation: u64, code: i64, words: &str) -> Vec<u8> {
        result(id, operation, code, words, self.referral.as_deref().filter(|_| code != SUCCESS), None)
    }

    fn search(&mut self, id: i64, request: Vec<StructureTag>, controls: &[StructureTag]) -> Vec<Vec<u8>> {
        let base = text(&request[0]).to_lowercase();
        let (scope, filter) = (number(&request[1]), &request[6]);
        let wanted: Vec<String> = parts(request[7].clone()).iter().map(|name| text(name).to_lowercase()).collect();
        if base.is_empty() {
            let said: &[(&str, &[&str])] = if self.mute_root {
                &[("vendorName", &["another"])]
            } else {
                &[("defaultNamingContext", &[BASE]), ("configurationNamingContext", &[CONFIGURATION])]
            };
            let values = said
                .iter()
                .map(|(name, values)| ((*name).to_owned(), values.iter().map(|value| (*value).to_owned()).collect()));
            return vec![entry(id, "", &values.collect()), self.result(id, 5, SUCCESS, "")];
        }
        let page = controls.first().map(|control| {
            let control = parts(control.clone());
            assert_eq!((text(&control[0]).as_str(), bytes(&control[1])), ("1.2.840.113556.1.4.319", &[0xff][..]));
            let value = parts(parse(bytes(&control[2])));
            (number(&value[0]), text(&value[1]))
        });
        let Some((size, cookie)) = page else {
            let found = self.found(&base, scope, filter);
            let mut out: Vec<_> = found.iter().map(|object| entry(id, &object.dn, &chosen(object, &wanted))).collect();
            out.push(self.result(id, 5, SUCCESS, ""));
            return out;
        };
        self.page_sizes.push(size);
        if self.page_size_max.is_some_and(|max| size > max) {
            return vec![self.result(id, 5, 4, "")];
        }
        let search = match cookie.split_once('/') {
            None => {
                let found = self.found(&base, scope, filter);
                self.searches.push(found);
                (self.searches.len() - 1, 0)
            }
            Some((search, at)) => (search.parse().expect("our cookie"), at.parse().expect("our cookie")),
        };
        let (index, at) = search;
        let rest = &self.searches[index][at..];
        let page: Vec<Object> = rest.iter().take(size as usize).cloned().collect();
        let cookie = if rest.len() > page.len() { format!("{index}/{}", at + page.len()) } else { String::new() };
        let mut out: Vec<_> = page.iter().map(|object| entry(id, &object.dn, &chosen(object, &wanted))).collect();
        if base == BASE.to_lowercase() {
            out.extend(self.references.iter().map(|url| message(id, 19, vec![octets(url)], None)));
        }
        out.push(result(id, 5, SUCCESS, "", None, Some(cookie.as_bytes())));
        out
    }

    fn found(&self, base: &str, scope: i64, filter: &StructureTag) -> Vec<Object> {
        let within = |object: &&Object| {
            let dn = object.dn.to_lowercase();
            dn == base || (scope == 2 && dn.ends_with(&format!(",{base}")))
        };
        self.objects.iter().filter(within).filter(|object| matches(object, filter)).cloned().collect()
    }

    fn modify(&mut self, id: i64, request: Vec<StructureTag>) -> Vec<u8> {
        let dn = text(&request[0]);
        if let Some((code, words)) = self.refuses.get(&dn) {
            return self.result(id, 7, *code, words);
        }
        let all: Vec<String> = self.objects.iter().map(|object| object.dn.to_lowercase()).collect();
        let Some(at) = self.objects.iter().position(|object| object.dn == dn) else {
            return self.result(id, 7, 32, "");
        };
        let mut changed = self.objects[at].attributes.clone();
        for change in parts(request[1].clone()) {
            let change = parts(change);
            let attribute = parts(change[1].clone());
            let name = text(&attribute[0]).to_lowercase();
            let values: Vec<String> = parts(attribute[1].clone()).iter().map(text).collect();
            let operation = number(&change[0]);
            let names_an_object = name == "homemdb" || name == "homemta";
            if operation != 1 && names_an_object && !values.iter().all(|value| all.contains(&value.to_lowercase())) {
                return self.result(id, 7, 19, "it names no object");
            }
            let old = changed.entry(name).or_default();
            match operation {
                0 => old.extend(values),
                1 if values.iter().all(|value| old.iter().any(|it| it.eq_ignore_ascii_case(value))) => {
                    old.retain(|it| !values.iter().any(|value| it.eq_ignore_ascii_case(value)));
                }
                1 => return self.result(id, 7, 16, ""),
                2 => *old = values,
                other => panic!("the kit sent the change {other}"),
            }
        }
        self.objects[at].attributes = changed;
        self.result(id, 7, SUCCESS, "")
    }
}

fn chosen(object: &Object, wanted: &[String]) -> BTreeMap<String, Vec<String>> {
    let wanted = object.attributes.iter().filter(|(name, _)| wanted.contains(name));
    wanted.map(|(name, values)| (name.clone(), values.clone())).collect()
}

fn matches(object: &Object, filter: &StructureTag) -> bool {
    match filter.id {
        0 => parts(filter.clone()).iter().all(|part| matches(object, part)),
        3 => {
            let parts = parts(filter.clone());
            let (name, value) = (text(&parts[0]).to_lowercase(), text(&parts[1]));
            object.attributes.get(&name).is_some_and(|all| all.iter().any(|it| it.eq_ignore_ascii_case(&value)))
        }
        7 => object.attributes.contains_key(&text(filter).to_lowercase()),
        other => panic!("the kit sent the filter {other}"),
    }
}

// BER.

fn length(bytes: &[u8]) -> Option<usize> {
    let form = usize::from(*bytes.get(1)?);
    if form < 0x80 {
        return Some(2 + form);
    }
    let count = form & 0x7f;
    let length = bytes.get(2..2 + count)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    Some(2 + count + length)
}

fn parse(bytes: &[u8]) -> StructureTag {
    Parser::new(20).parse(bytes).expect("the kit sends BER").1
}

fn parts(tag: StructureTag) -> Vec<StructureTag> {
    tag.expect_constructed().expect("it has parts")
}

fn bytes(tag: &StructureTag) -> &[u8] {
    let PL::P(bytes) = &tag.payload else { panic!("it has parts") };
    bytes
}

fn text(tag: &StructureTag) -> String {
    String::from_utf8(bytes(tag).to_vec()).expect("text")
}

fn number(tag: &StructureTag) -> i64 {
    bytes(tag).iter().fold(0, |number, byte| number << 8 | i64::from(*byte))
}

fn tag(class: TagClass, id: u64, payload: PL) -> StructureTag {
    StructureTag { class, id, payload }
}

fn octets(text: impl AsRef<[u8]>) -> StructureTag {
    tag(TagClass::Universal, 4, PL::P(text.as_ref().to_vec()))
}

fn sequence(parts: Vec<StructureTag>) -> StructureTag {
    tag(TagClass::Universal, 16, PL::C(parts))
}

fn integer(id: u64, value: i64) -> StructureTag {
    tag(TagClass::Universal, id, PL::P((value as i32).to_be_bytes().to_vec()))
}

fn encode(tag: StructureTag) -> Vec<u8> {
    let mut out = Default::default();
    ldap3_lber::write::encode_into(&mut out, tag).expect("memory");
    out.to_vec()
}

/// A message with an operation of these parts.
pub(crate) fn message(id: i64, operation: u64, body: Vec<StructureTag>, cookie: Option<&[u8]>) -> Vec<u8> {
    let mut parts = vec![integer(2, id), tag(TagClass::Application, operation, PL::C(body))];
    if let Some(cookie) = cookie {
        let value = encode(sequence(vec![integer(2, 0), octets(cookie)]));
        let control = sequence(vec![octets("1.2.840.113556.1.4.319"), octets(value)]);
        parts.push(tag(TagClass::Context, 0, PL::C(vec![control])));
    }
    encode(sequence(parts))
}

/// The answer that ends something.
pub(crate) fn result(
    id: i64,
    operation: u64,
    code: i64,
    words: &str,
    referral: Option<&str>,
    cookie: Option<&[u8]>,
) -> Vec<u8> {
    let mut body = vec![integer(10, code), octets(""), octets(words)];
    if let Some(url) = referral {
        body.push(tag(TagClass::Context, 3, PL::C(vec![octets(url)])));
    }
    message(id, operation, body, cookie)
}

/// The notice that the connection is about to be closed.
pub(crate) fn disconnection(code: i64) -> Vec<u8> {
    let name = tag(TagClass::Context, 10, PL::P(b"1.3.6.1.4.1.1466.20036".to_vec()));
    message(0, 24, vec![integer(10, code), octets(""), octets("going down"), name], None)
}

/// A result of a search.
pub(crate) fn entry(id: i64, dn: &str, attributes: &BTreeMap<String, Vec<String>>) -> Vec<u8> {
    let attribute = |(name, values): (&String, &Vec<String>)| {
        let values = values.iter().map(octets).collect();
        sequence(vec![octets(name), tag(TagClass::Universal, 17, PL::C(values))])
    };
    // One that nobody asked for, and that is no text.
    let guid = sequence(vec![octets("objectGUID"), tag(TagClass::Universal, 17, PL::C(vec![octets([0xff, 0, 0xfe])]))]);
    let attributes = attributes.iter().map(attribute).chain([guid]).collect();
    message(id, 4, vec![octets(dn), sequence(attributes)], None)
}
