//! Which bytes are being written just now (V8): each copy applies overlapping writes in the order in which the source
//! began them, because it begins none while one that overlaps it is under way.

use alloc::collections::BTreeMap;

use crate::types::Extent;

/// What is under way on this copy's disk. No two of them overlap.
#[derive(Debug, Default)]
pub(super) struct Order {
    ends: BTreeMap<u64, u64>,
}

impl Order {
    /// Whether nothing under way overlaps it.
    pub(super) fn is_free(&self, extent: Extent) -> bool {
        self.ends.range(..extent.end()).next_back().is_none_or(|(_, end)| *end <= extent.offset)
    }

    /// It is begun.
    pub(super) fn begin(&mut self, extent: Extent) {
        self.ends.insert(extent.offset, extent.end());
    }

    /// It is done.
    pub(super) fn end(&mut self, extent: Extent) {
        self.ends.remove(&extent.offset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_overlaps_waits() {
        let at = |offset, length| Extent { offset, length };
        let mut order = Order::default();
        order.begin(at(1024, 1024));
        order.begin(at(4096, 512));
        for (extent, free) in [
            (at(0, 1024), true),
            (at(0, 1536), false),
            (at(1536, 512), false),
            (at(2048, 2048), true),
            (at(0, 8192), false),
            (at(4096, 4096), false),
            (at(4608, 512), true),
        ] {
            assert_eq!(order.is_free(extent), free, "V8: {extent:?}");
        }
        order.end(at(1024, 1024));
        assert!(order.is_free(at(0, 4096)));
    }
}
