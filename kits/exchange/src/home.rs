//! Where recipients have their home, by the directory: those of the other nodes' servers are given one on this node's (2003 and
//! 2007), and a standby's server is compared with theirs.

use mainstay_sdk::prelude::*;

use crate::directory::{self, DirectoryParams, Mode, Rehome, StoreName};

/// What is asked of the directory.
pub(crate) struct Home {
    pub(crate) directory: DirectoryParams,
    /// The Exchange server of this node.
    pub(crate) here: String,
    /// Those of the other nodes.
    pub(crate) others: Vec<String>,
    pub(crate) stores: Vec<StoreName>,
    /// Whether recipients are rehomed; otherwise the servers are only compared.
    pub(crate) rehomes: bool,
}

/// Gives recipients their home here: how many had another one.
pub(crate) fn rehome(home: &Home) -> Result<usize, Error> {
    if !home.rehomes {
        return Ok(0);
    }
    let mut changed = 0;
    for from_server in &home.others {
        let asked =
            Rehome { from_server: from_server.clone(), to_server: home.here.clone(), stores: home.stores.clone() };
        let done = directory::rehome(&home.directory, &asked, Mode::Apply)?;
        changed += done.changed;
        if let Some(error) = done.refusal() {
            return Err(error);
        }
    }
    Ok(changed)
}

/// What would keep this node's server from taking the place of the others; a directory that does not tell is among it.
pub(crate) fn findings(home: &Home) -> Vec<Finding> {
    let mut found = Vec::new();
    for owner in &home.others {
        match directory::compare(&home.directory, &home.here, owner, &home.stores) {
            Ok(findings) => found.extend(findings),
            Err(error) if home.rehomes => {
                let advice = "Restore would fail for the same reason; it is asked again by itself";
                found.push(Finding::blocking(error.code, error.message, advice));
            }
            Err(error) => {
                let advice = "Whether both servers are of the same build is not known; it is asked again by itself";
                found.push(Finding::warning(error.code, error.message, advice));
            }
        }
    }
    found
}
