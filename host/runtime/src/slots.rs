//! How many calls run at once, so that calls which hang leave room for those which do not.
//!
//! Three shares, from narrow to wide: of a kit's calls those that are no checks; a kit's calls; all calls on
//! one engine. Who finds no room waits in the order of asking, at the cost of its own budget; nobody is refused.

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::kit::{Kit, Placement};
use crate::limits::Limits;
use crate::outcome::Operation;

/// What all kits share.
pub(crate) struct Slots {
    pooled: Semaphore,
    on_demand: Semaphore,
}

/// What one kit may have of it.
pub(crate) struct KitSlots {
    all: Semaphore,
    /// restore, remove and recover.
    operations: Semaphore,
}

/// The right to run a call. Given back when dropped.
pub(crate) struct Slot<'a> {
    _permits: [Option<SemaphorePermit<'a>>; 3],
}

impl Slots {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { pooled: Semaphore::new(limits.calls_max), on_demand: Semaphore::new(limits.big_calls_max) }
    }
}

impl KitSlots {
    pub(crate) fn new(limits: &Limits, placement: &Placement) -> Self {
        let share = |of: usize| match placement {
            Placement::Pooled => of,
            // The same share of fewer.
            Placement::OnDemand { .. } => (limits.big_calls_max * of / limits.calls_max.max(1)).max(1),
        };
        Self {
            all: Semaphore::new(share(limits.calls_per_kit_max)),
            operations: Semaphore::new(share(limits.operations_per_kit_max)),
        }
    }
}

impl Kit {
    /// Waits until a call of this kit may run.
    pub(crate) async fn slot(&self, operation: &Operation) -> Slot<'_> {
        let wide = match self.placement() {
            Placement::Pooled => &self.runtime.slots.pooled,
            Placement::OnDemand { .. } => &self.runtime.slots.on_demand,
        };
        let narrow = match operation {
            Operation::QuickCheck | Operation::DeepCheck | Operation::Assess => None,
            Operation::Restore | Operation::Remove | Operation::Recover(_) => Some(&self.slots.operations),
        };
        let mut permits = [None, None, None];
        // Narrow before wide, so that nobody holds what others need while waiting for its own.
        for (permit, semaphore) in permits.iter_mut().zip([narrow, Some(&self.slots.all), Some(wide)]) {
            if let Some(semaphore) = semaphore {
                // An error would mean that it was closed, which nobody does.
                *permit = semaphore.acquire().await.ok();
            }
        }
        Slot { _permits: permits }
    }
}
