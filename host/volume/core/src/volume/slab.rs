//! Things that are known by a number which is never used again, found without a search.

use alloc::vec::Vec;

/// How many bits of a key are its place; the rest counts what was there before.
const PLACE_BITS: u32 = 20;

/// Up to a million things at a time.
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<(u64, Option<T>)>,
    free: Vec<u32>,
    count: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new(), count: 0 }
    }
}

impl<T> Slab<T> {
    /// Puts it in; its key.
    pub(super) fn insert(&mut self, what: T) -> u64 {
        self.count += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            (self.places.len() - 1) as u32
        });
        let (serial, slot) = &mut self.places[place as usize];
        *serial += 1;
        *slot = Some(what);
        (*serial << PLACE_BITS) | u64::from(place)
    }

    fn place(key: u64) -> (usize, u64) {
        ((key & ((1 << PLACE_BITS) - 1)) as usize, key >> PLACE_BITS)
    }

    /// What has this key, if it is still there.
    pub(super) fn get_mut(&mut self, key: u64) -> Option<&mut T> {
        let (place, serial) = Self::place(key);
        self.places.get_mut(place).filter(|(its, _)| *its == serial).and_then(|(_, what)| what.as_mut())
    }

    /// The same, to look at.
    pub(super) fn get(&self, key: u64) -> Option<&T> {
        let (place, serial) = Self::place(key);
        self.places.get(place).filter(|(its, _)| *its == serial).and_then(|(_, what)| what.as_ref())
    }

    /// Takes it out.
    pub(super) fn remove(&mut self, key: u64) -> Option<T> {
        let (place, serial) = Self::place(key);
        let what = self.places.get_mut(place).filter(|(its, _)| *its == serial).and_then(|(_, what)| what.take())?;
        self.free.push(place as u32);
        self.count -= 1;
        Some(what)
    }

    /// How many are in it.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// The keys of all of them, in no order that means anything.
    pub(super) fn keys(&self) -> Vec<u64> {
        (0u64..)
            .zip(&self.places)
            .filter(|(_, (_, what))| what.is_some())
            .map(|(place, (serial, _))| (*serial << PLACE_BITS) | place)
            .collect()
    }
}
