//! What one call may take of memory: linear memories and tables together, not each. It notes when it refused
//! something, so that a kit that stopped for want of memory is told from one that broke.

use wasmtime::ResourceLimiter;

/// The memory of one call.
#[derive(Debug)]
pub(crate) struct Limiter {
    memory_bytes: usize,
    memory_bytes_max: usize,
    table_elements: usize,
    table_elements_max: usize,
    instances_max: usize,
    memories_max: usize,
    tables_max: usize,
    /// What the last growth that was allowed added: to be taken back when it fails after all.
    last_growth: usize,
    refused: Option<Refused>,
}

/// What was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Linear memory, in bytes in all.
    Memory { wanted: usize, allowed: usize },
    /// Table elements in all.
    Table { wanted: usize, allowed: usize },
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory { wanted, allowed } => write!(f, "{wanted} bytes of memory, {allowed} are allowed"),
            Self::Table { wanted, allowed } => write!(f, "{wanted} table elements, {allowed} are allowed"),
        }
    }
}

/// How much.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowance {
    pub(crate) memory_bytes_max: usize,
    pub(crate) table_elements_max: usize,
    pub(crate) instances_max: usize,
    pub(crate) memories_max: usize,
    pub(crate) tables_max: usize,
}

impl Limiter {
    pub(crate) fn new(allowance: &Allowance) -> Self {
        Self {
            memory_bytes: 0,
            memory_bytes_max: allowance.memory_bytes_max,
            table_elements: 0,
            table_elements_max: allowance.table_elements_max,
            instances_max: allowance.instances_max,
            memories_max: allowance.memories_max,
            tables_max: allowance.tables_max,
            last_growth: 0,
            refused: None,
        }
    }

    /// What was last refused, if anything was.
    pub(crate) fn refused(&self) -> Option<Refused> {
        self.refused
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current);
        let wanted = self.memory_bytes.saturating_add(growth);
        if wanted > self.memory_bytes_max {
            self.refused = Some(Refused::Memory { wanted, allowed: self.memory_bytes_max });
            return Ok(false);
        }
        self.memory_bytes = wanted;
        self.last_growth = growth;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        let wanted = self.memory_bytes;
        self.memory_bytes -= std::mem::take(&mut self.last_growth);
        if self.refused.is_none() {
            self.refused = Some(Refused::Memory { wanted, allowed: self.memory_bytes });
        }
        tracing::debug!(%error, "a linear memory did not grow");
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current);
        let wanted = self.table_elements.saturating_add(growth);
        if wanted > self.table_elements_max {
            self.refused = Some(Refused::Table { wanted, allowed: self.table_elements_max });
            return Ok(false);
        }
        self.table_elements = wanted;
        self.last_growth = growth;
        Ok(true)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        let wanted = self.table_elements;
        self.table_elements -= std::mem::take(&mut self.last_growth);
        if self.refused.is_none() {
            self.refused = Some(Refused::Table { wanted, allowed: self.table_elements });
        }
        tracing::debug!(%error, "a table did not grow");
        Ok(())
    }

    fn instances(&self) -> usize {
        self.instances_max
    }

    fn tables(&self) -> usize {
        self.tables_max
    }

    fn memories(&self) -> usize {
        self.memories_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter() -> Limiter {
        Limiter::new(&Allowance {
            memory_bytes_max: 100,
            table_elements_max: 10,
            instances_max: 1,
            memories_max: 1,
            tables_max: 1,
        })
    }

    #[test]
    fn all_memories_count_together() {
        let mut limiter = limiter();
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(limiter.memory_growing(0, 40, None).unwrap());
        assert_eq!(limiter.refused(), None);
        assert!(!limiter.memory_growing(40, 41, None).unwrap());
        assert_eq!(limiter.refused(), Some(Refused::Memory { wanted: 101, allowed: 100 }));
    }

    #[test]
    fn a_growth_that_failed_is_taken_back() {
        let mut limiter = limiter();
        assert!(limiter.table_growing(0, 8, None).unwrap());
        limiter.table_grow_failed(wasmtime::Error::msg("maximum")).unwrap();
        assert!(limiter.refused().is_some());
        assert!(limiter.table_growing(0, 10, None).unwrap());
        assert!(!limiter.table_growing(10, 11, None).unwrap());
    }
}
