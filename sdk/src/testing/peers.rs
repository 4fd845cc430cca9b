//! What a fake network peer answers.

use crate::Fault;

/// What comes back from a peer. A `Vec<u8>` turns into it, and so do `()`, an `Option<Vec<u8>>` and a
/// [`Fault`].
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub(super) pieces: Vec<Vec<u8>>,
    pub(super) close: bool,
    pub(super) fault: Option<Fault>,
}

impl Answer {
    /// Silence: whoever waits runs into the timeout.
    #[must_use]
    pub fn nothing() -> Self {
        Self::default()
    }

    /// These bytes; over UDP one datagram.
    #[must_use]
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self { pieces: vec![bytes.into()], ..Self::default() }
    }

    /// And these; over UDP another datagram.
    #[must_use]
    pub fn and(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.pieces.push(bytes.into());
        self
    }

    /// After that the peer closes (TCP).
    #[must_use]
    pub fn then_close(mut self) -> Self {
        self.close = true;
        self
    }

    /// After that reading fails like this, once; a TCP connection is dead then, unless it is a timeout.
    #[must_use]
    pub fn then_fault(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }
}

impl From<()> for Answer {
    fn from((): ()) -> Self {
        Self::nothing()
    }
}

impl From<Vec<u8>> for Answer {
    fn from(bytes: Vec<u8>) -> Self {
        Self::bytes(bytes)
    }
}

impl From<Option<Vec<u8>>> for Answer {
    fn from(bytes: Option<Vec<u8>>) -> Self {
        bytes.map_or_else(Self::nothing, Self::bytes)
    }
}

impl From<Fault> for Answer {
    fn from(fault: Fault) -> Self {
        Self::nothing().then_fault(fault)
    }
}
