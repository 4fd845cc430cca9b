//! The handshake: which export a client gets, and what it is told of it ("Fixed newstyle negotiation").
//!
//! Decides from a client's bytes what is answered and whether transmission begins. It holds nothing but how far the
//! client has come; whoever has the socket brings the bytes and carries the answers.

use super::{BLOCK_BYTES_PREFERRED, Export, REQUEST_BYTES_MAX, Reader};

/// The longest option, in bytes: a name may have 4096 ("Strings"), and a few numbers come with it.
pub const OPTION_BYTES_MAX: u32 = 8 << 10;
/// How many options a client may send: it needs two or three, and one that asks for ever is none.
pub const OPTIONS_MAX: u32 = 64;

const MAGIC: u64 = u64::from_be_bytes(*b"NBDMAGIC");
const OPTION_MAGIC: u64 = u64::from_be_bytes(*b"IHAVEOPT");
const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;

/// `NBD_FLAG_FIXED_NEWSTYLE` and `NBD_FLAG_NO_ZEROES`, the same in both directions.
const FIXED_NEWSTYLE: u32 = 1;
const NO_ZEROES: u32 = 2;
/// What follows the answer to `NBD_OPT_EXPORT_NAME` where the client did not do without, in bytes.
const ZEROES: usize = 124;

mod option {
    pub(super) const EXPORT_NAME: u32 = 1;
    pub(super) const ABORT: u32 = 2;
    pub(super) const LIST: u32 = 3;
    pub(super) const INFO: u32 = 6;
    pub(super) const GO: u32 = 7;
}

mod reply {
    pub(super) const ACK: u32 = 1;
    pub(super) const SERVER: u32 = 2;
    pub(super) const INFO: u32 = 3;
    const ERROR: u32 = 1 << 31;
    pub(super) const UNSUPPORTED: u32 = ERROR | 1;
    pub(super) const POLICY: u32 = ERROR | 2;
    pub(super) const INVALID: u32 = ERROR | 3;
    pub(super) const UNKNOWN: u32 = ERROR | 6;
    pub(super) const BLOCK_SIZE_REQUIRED: u32 = ERROR | 8;
}

mod info {
    pub(super) const EXPORT: u16 = 0;
    pub(super) const NAME: u16 = 1;
    pub(super) const BLOCK_SIZE: u16 = 3;
}

/// Block sizes that a client need not ask for, as all keep to them, in bytes.
const BLOCK_BYTES_ASSUMED: u32 = 512;

/// What happens after some of a client's bytes were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing yet: an option is not complete.
    More,
    /// One option was answered, and another may come.
    Next,
    /// The client has its export: what follows are requests.
    Transmission,
    /// The connection ends, once what was answered is sent.
    Close,
}

/// Why a connection ends at once: whoever speaks is no NBD client, or one that nobody can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NegotiationError {
    /// Bits of the client's flags that mean nothing.
    #[error("it does not speak NBD's fixed newstyle handshake (client flags {0:#x})")]
    Flags(u32),
    /// An option begins otherwise.
    #[error("it does not speak NBD: an option begins with {0:#x}")]
    Magic(u64),
    /// An option is longer than any has to be.
    #[error("an option of {0} bytes is too long, {OPTION_BYTES_MAX} are taken")]
    TooLong(u32),
    /// Nothing comes of it.
    #[error("more than {OPTIONS_MAX} options")]
    TooMany,
    /// To `NBD_OPT_EXPORT_NAME` there is no answer but an export.
    #[error("it asks for an export that cannot be had, in a way that knows no refusal")]
    NoExport,
}

/// Whether there is something to be served now.
#[derive(Clone, Copy, Debug)]
pub enum Offer<'a> {
    /// This volume.
    Open(&'a Export),
    /// This volume, but not now; why, for people. Clients are told it in answer to their option.
    Closed(&'a Export, &'a str),
}

impl<'a> Offer<'a> {
    fn export(&self) -> &'a Export {
        match self {
            Self::Open(export) | Self::Closed(export, _) => export,
        }
    }
}

/// How far a client has come.
#[derive(Debug, Default)]
pub struct Negotiation {
    has_flags: bool,
    no_zeroes: bool,
    options: u32,
}

/// What the server says first.
#[must_use]
pub fn greeting() -> [u8; 18] {
    let mut bytes = [0; 18];
    bytes[..8].copy_from_slice(&MAGIC.to_be_bytes());
    bytes[8..16].copy_from_slice(&OPTION_MAGIC.to_be_bytes());
    bytes[16..].copy_from_slice(&((FIXED_NEWSTYLE | NO_ZEROES) as u16).to_be_bytes());
    bytes
}

impl Negotiation {
    /// Takes the client's flags or one option from the front of `input`, and adds the answer to `output`. Gives how
    /// many bytes it took and what happens next; to be called again until [`Step::More`].
    ///
    /// # Errors
    /// When the connection has to end without an answer.
    pub fn take(
        &mut self,
        input: &[u8],
        offer: Offer<'_>,
        output: &mut Vec<u8>,
    ) -> Result<(usize, Step), NegotiationError> {
        let mut reader = Reader(input);
        if !self.has_flags {
            let Some(flags) = reader.u32() else { return Ok((0, Step::More)) };
            if flags & FIXED_NEWSTYLE == 0 || flags & !(FIXED_NEWSTYLE | NO_ZEROES) != 0 {
                return Err(NegotiationError::Flags(flags));
            }
            self.has_flags = true;
            self.no_zeroes = flags & NO_ZEROES != 0;
            return Ok((4, Step::Next));
        }
        // Judged as early as it can be: garbage is not waited for.
        let Some(magic) = reader.u64() else { return Ok((0, Step::More)) };
        if magic != OPTION_MAGIC {
            return Err(NegotiationError::Magic(magic));
        }
        let (Some(kind), Some(length)) = (reader.u32(), reader.u32()) else { return Ok((0, Step::More)) };
        if length > OPTION_BYTES_MAX {
            return Err(NegotiationError::TooLong(length));
        }
        let Some(data) = reader.bytes(length as usize) else { return Ok((0, Step::More)) };
        self.options += 1;
        if self.options > OPTIONS_MAX {
            return Err(NegotiationError::TooMany);
        }
        let step = self.answer(kind, data, offer, output)?;
        Ok((input.len() - reader.0.len(), step))
    }

    fn answer(&self, kind: u32, data: &[u8], offer: Offer<'_>, output: &mut Vec<u8>) -> Result<Step, NegotiationError> {
        let mut say = |what: u32, data: &[u8]| reply(output, kind, what, data);
        match kind {
            option::EXPORT_NAME => {
                let Offer::Open(export) = offer else { return Err(NegotiationError::NoExport) };
                if !is_named(data, export) {
                    return Err(NegotiationError::NoExport);
                }
                output.extend_from_slice(&export.size_bytes.to_be_bytes());
                output.extend_from_slice(&export.flags().to_be_bytes());
                if !self.no_zeroes {
                    output.extend_from_slice(&[0; ZEROES]);
                }
                return Ok(Step::Transmission);
            }
            option::ABORT => {
                say(reply::ACK, &[]);
                return Ok(Step::Close);
            }
            option::LIST if data.is_empty() => {
                let name = offer.export().name.as_bytes();
                say(reply::SERVER, &[&(name.len() as u32).to_be_bytes(), name].concat());
                say(reply::ACK, &[]);
            }
            option::LIST => say(reply::INVALID, b"NBD_OPT_LIST has no data"),
            option::INFO | option::GO => {
                let Some(asked) = Asked::parse(data) else {
                    say(reply::INVALID, b"the option's lengths do not fit together");
                    return Ok(Step::Next);
                };
                let export = match offer {
                    _ if !is_named(asked.name, offer.export()) => {
                        say(reply::UNKNOWN, b"there is no export of this name");
                        return Ok(Step::Next);
                    }
                    Offer::Closed(_, why) => {
                        say(reply::POLICY, why.as_bytes());
                        return Ok(Step::Next);
                    }
                    Offer::Open(export) => export,
                };
                if kind == option::GO && !asked.block_size && export.block_bytes_min > BLOCK_BYTES_ASSUMED {
                    say(reply::BLOCK_SIZE_REQUIRED, b"the disk has larger blocks than is assumed");
                    return Ok(Step::Next);
                }
                for info in infos(export, &asked) {
                    say(reply::INFO, &info);
                }
                say(reply::ACK, &[]);
                if kind == option::GO {
                    return Ok(Step::Transmission);
                }
            }
            _ => say(reply::UNSUPPORTED, &[]),
        }
        Ok(Step::Next)
    }
}

/// What `NBD_OPT_INFO` and `NBD_OPT_GO` ask for.
struct Asked<'a> {
    name: &'a [u8],
    block_size: bool,
    names: bool,
}

impl<'a> Asked<'a> {
    fn parse(data: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(data);
        let length = reader.u32()?;
        let name = reader.bytes(length as usize)?;
        let count = reader.u16()?;
        let mut asked = Self { name, block_size: false, names: false };
        for _ in 0..count {
            match reader.u16()? {
                info::BLOCK_SIZE => asked.block_size = true,
                info::NAME => asked.names = true,
                _ => {}
            }
        }
        reader.0.is_empty().then_some(asked)
    }
}

/// No name means whatever there is.
fn is_named(name: &[u8], export: &Export) -> bool {
    name.is_empty() || name == export.name.as_bytes()
}

fn infos(export: &Export, asked: &Asked<'_>) -> Vec<Vec<u8>> {
    let mut size = info::EXPORT.to_be_bytes().to_vec();
    size.extend_from_slice(&export.size_bytes.to_be_bytes());
    size.extend_from_slice(&export.flags().to_be_bytes());
    let mut blocks = info::BLOCK_SIZE.to_be_bytes().to_vec();
    for bytes in [export.block_bytes_min, BLOCK_BYTES_PREFERRED.max(export.block_bytes_min), REQUEST_BYTES_MAX] {
        blocks.extend_from_slice(&bytes.to_be_bytes());
    }
    let mut infos = vec![size, blocks];
    if asked.names {
        infos.push([&info::NAME.to_be_bytes(), export.name.as_bytes()].concat());
    }
    infos
}

fn reply(output: &mut Vec<u8>, kind: u32, what: u32, data: &[u8]) {
    output.extend_from_slice(&REPLY_MAGIC.to_be_bytes());
    output.extend_from_slice(&kind.to_be_bytes());
    output.extend_from_slice(&what.to_be_bytes());
    output.extend_from_slice(&(data.len() as u32).to_be_bytes());
    output.extend_from_slice(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn export() -> Export {
        Export { name: "mail".into(), size_bytes: 1 << 30, block_bytes_min: 512 }
    }

    fn option(kind: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = OPTION_MAGIC.to_be_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&(data.len() as u32).to_be_bytes());
        bytes.extend_from_slice(data);
        bytes
    }

    fn go(name: &str, infos: &[u16]) -> Vec<u8> {
        let mut data = (name.len() as u32).to_be_bytes().to_vec();
        data.extend_from_slice(name.as_bytes());
        data.extend_from_slice(&(infos.len() as u16).to_be_bytes());
        for info in infos {
            data.extend_from_slice(&info.to_be_bytes());
        }
        option(option::GO, &data)
    }

    /// Everything a client says, in one piece or byte by byte, and what it comes to.
    fn talk(offer: Offer<'_>, said: &[u8]) -> (Result<Step, NegotiationError>, Vec<u8>) {
        let run = |pieces: &mut dyn Iterator<Item = &[u8]>| {
            let (mut negotiation, mut output, mut held) = (Negotiation::default(), Vec::new(), Vec::new());
            for piece in pieces {
                held.extend_from_slice(piece);
                loop {
                    match negotiation.take(&held, offer, &mut output) {
                        Ok((took, step)) => {
                            held.drain(..took);
                            match step {
                                Step::More => break,
                                Step::Next => {}
                                Step::Transmission | Step::Close => return (Ok(step), output),
                            }
                        }
                        Err(error) => return (Err(error), output),
                    }
                }
            }
            (Ok(Step::More), output)
        };
        let whole = run(&mut std::iter::once(said));
        assert_eq!(run(&mut said.chunks(1)), whole, "how bytes are cut makes no difference");
        whole
    }

    fn replies(mut output: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let mut replies = Vec::new();
        while !output.is_empty() {
            let mut reader = Reader(output);
            assert_eq!(reader.u64(), Some(REPLY_MAGIC));
            reader.u32().unwrap();
            let what = reader.u32().unwrap();
            let length = reader.u32().unwrap();
            replies.push((what, reader.bytes(length as usize).unwrap().to_vec()));
            output = reader.0;
        }
        replies
    }

    #[test]
    fn a_client_gets_its_export() {
        let export = export();
        let said = [&3u32.to_be_bytes()[..], &option(8, &[]), &go("mail", &[3, 1])].concat();
        let (step, output) = talk(Offer::Open(&export), &said);
        assert_eq!(step, Ok(Step::Transmission));
        let replies = replies(&output);
        let kinds: Vec<u32> = replies.iter().map(|(what, _)| *what).collect();
        assert_eq!(kinds, [reply::UNSUPPORTED, reply::INFO, reply::INFO, reply::INFO, reply::ACK]);
        assert_eq!(replies[1].1, [&[0, 0][..], &(1u64 << 30).to_be_bytes(), &[0x01, 0x6d]].concat());
        assert_eq!(replies[3].1, [&[0, 1][..], b"mail"].concat());
    }

    #[test]
    fn what_cannot_be_had_is_refused_with_why() {
        let export = export();
        let said = [&3u32.to_be_bytes()[..], &go("other", &[]), &option(option::GO, &[0, 0, 0, 9, 1])].concat();
        let (step, output) = talk(Offer::Open(&export), &said);
        assert_eq!(step, Ok(Step::More));
        assert_eq!(replies(&output).iter().map(|reply| reply.0).collect::<Vec<_>>(), [reply::UNKNOWN, reply::INVALID]);

        let said = [&3u32.to_be_bytes()[..], &go("", &[])].concat();
        let (_, output) = talk(Offer::Closed(&export, "it is the target"), &said);
        assert_eq!(replies(&output), [(reply::POLICY, b"it is the target".to_vec())]);

        let large = Export { block_bytes_min: 4096, ..export };
        let (_, output) = talk(Offer::Open(&large), &said);
        assert_eq!(replies(&output)[0].0, reply::BLOCK_SIZE_REQUIRED);
    }

    #[test]
    fn an_old_client_gets_its_export_by_name() {
        let export = export();
        for (flags, length) in [(1u32, 8 + 2 + ZEROES), (3, 8 + 2)] {
            let said = [&flags.to_be_bytes()[..], &option(option::EXPORT_NAME, b"mail")].concat();
            let (step, output) = talk(Offer::Open(&export), &said);
            assert_eq!((step, output.len()), (Ok(Step::Transmission), length));
        }
        let said = [&1u32.to_be_bytes()[..], &option(option::EXPORT_NAME, b"other")].concat();
        assert_eq!(talk(Offer::Open(&export), &said).0, Err(NegotiationError::NoExport));
    }

    #[test]
    fn garbage_ends_the_connection() {
        let export = export();
        let flags = 3u32.to_be_bytes();
        let long = [&OPTION_MAGIC.to_be_bytes()[..], &7u32.to_be_bytes(), &u32::MAX.to_be_bytes()].concat();
        let many = [&flags[..], &option(99, &[]).repeat(OPTIONS_MAX as usize + 1)].concat();
        let cases: [(&[u8], NegotiationError); 4] = [
            (b"GET / HTTP/1.1\r\n", NegotiationError::Flags(u32::from_be_bytes(*b"GET "))),
            (&[&flags[..], b"GET / HT"].concat(), NegotiationError::Magic(u64::from_be_bytes(*b"GET / HT"))),
            (&[&flags[..], &long].concat(), NegotiationError::TooLong(u32::MAX)),
            (&many, NegotiationError::TooMany),
        ];
        for (said, error) in cases {
            assert_eq!(talk(Offer::Open(&export), said).0, Err(error));
        }
    }
}
