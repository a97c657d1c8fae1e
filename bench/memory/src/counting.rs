//! An allocator that counts what is alive, by size, and can remember who asked for it.
//!
//! What is counted is what the program asked for; the system's allocator rounds up and adds a header of 8 bytes.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    backtrace::Backtrace,
    cell::Cell,
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
    },
};

/// Sizes up to here are counted one by one, longer ones together.
const EXACT: usize = 32 << 10;

pub(crate) struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static BYTES: AtomicI64 = AtomicI64::new(0);
static BLOCKS: AtomicI64 = AtomicI64::new(0);
static TRAFFIC_BYTES: AtomicI64 = AtomicI64::new(0);
static TRAFFIC_BLOCKS: AtomicI64 = AtomicI64::new(0);
static BY_SIZE: [AtomicI64; EXACT + 2] = [const { AtomicI64::new(0) }; EXACT + 2];

static REMEMBERING: AtomicBool = AtomicBool::new(false);
/// Who asked for what is alive: by address.
static ORIGINS: Mutex<Option<HashMap<usize, (usize, Backtrace)>>> = Mutex::new(None);

thread_local! {
    /// This thread is inside the bookkeeping, whose own memory is not remembered.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// What was alive at one moment.
pub(crate) struct Snapshot {
    pub(crate) bytes: i64,
    pub(crate) blocks: i64,
    pub(crate) traffic_bytes: i64,
    pub(crate) traffic_blocks: i64,
    by_size: Vec<i64>,
}

impl Snapshot {
    /// Room for a snapshot. Made before the first is taken, so that none counts the others.
    pub(crate) fn room() -> Self {
        Self { bytes: 0, blocks: 0, traffic_bytes: 0, traffic_blocks: 0, by_size: vec![0; EXACT + 2] }
    }

    /// Remembers what is alive now. Allocates nothing.
    pub(crate) fn take(&mut self) {
        self.bytes = BYTES.load(Relaxed);
        self.blocks = BLOCKS.load(Relaxed);
        self.traffic_bytes = TRAFFIC_BYTES.load(Relaxed);
        self.traffic_blocks = TRAFFIC_BLOCKS.load(Relaxed);
        for (slot, count) in self.by_size.iter_mut().zip(&BY_SIZE) {
            *slot = count.load(Relaxed);
        }
    }

    /// Sizes and how many more blocks of them are alive than in `before`; size 0 stands for all longer ones.
    pub(crate) fn since(&self, before: &Self) -> Vec<(usize, i64)> {
        let sizes = self.by_size.iter().zip(&before.by_size).enumerate();
        let changed = sizes.map(|(size, (now, then))| (if size > EXACT { 0 } else { size }, now - then));
        changed.filter(|(_, count)| *count != 0).collect()
    }
}

/// Remembers who asks for memory from now on, or forgets it all. Slow.
pub(crate) fn remember(on: bool) {
    INSIDE.set(true);
    *ORIGINS.lock().unwrap() = on.then(HashMap::new);
    INSIDE.set(false);
    REMEMBERING.store(on, Relaxed);
}

/// Who asked for what is alive: size and call stack (innermost first), and how many blocks there are of it.
pub(crate) fn origins() -> Vec<(usize, Vec<String>, usize)> {
    INSIDE.set(true);
    REMEMBERING.store(false, Relaxed);
    let mut groups: BTreeMap<(usize, Vec<String>), usize> = BTreeMap::new();
    for (size, backtrace) in ORIGINS.lock().unwrap().take().unwrap_or_default().into_values() {
        let text = backtrace.to_string();
        let frames =
            text.lines().filter_map(|line| line.trim_start().split_once(": ")).map(|(_, name)| name.to_owned());
        *groups.entry((size, frames.collect())).or_default() += 1;
    }
    INSIDE.set(false);
    groups.into_iter().map(|((size, frames), count)| (size, frames, count)).collect()
}

fn count(size: usize, sign: i64) {
    BYTES.fetch_add(sign * size as i64, Relaxed);
    BLOCKS.fetch_add(sign, Relaxed);
    BY_SIZE[size.min(EXACT + 1)].fetch_add(sign, Relaxed);
    if sign > 0 {
        TRAFFIC_BYTES.fetch_add(size as i64, Relaxed);
        TRAFFIC_BLOCKS.fetch_add(1, Relaxed);
    }
}

/// Runs the bookkeeping of origins, unless this thread is inside it already.
fn track(what: impl FnOnce(&mut HashMap<usize, (usize, Backtrace)>)) {
    if !REMEMBERING.load(Relaxed) || INSIDE.try_with(|inside| inside.replace(true)).unwrap_or(true) {
        return;
    }
    if let Ok(mut origins) = ORIGINS.lock()
        && let Some(origins) = origins.as_mut()
    {
        what(origins);
    }
    INSIDE.set(false);
}

// SAFETY: every call is passed on to the system's allocator with the arguments it came with; the bookkeeping beside it
// neither touches the memory nor unwinds, and what it allocates itself comes back here with `INSIDE` set and ends.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        let block = unsafe { System.alloc(layout) };
        if !block.is_null() {
            count(layout.size(), 1);
            track(|origins| drop(origins.insert(block as usize, (layout.size(), Backtrace::force_capture()))));
        }
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc_zeroed`, which is the same.
        let block = unsafe { System.alloc_zeroed(layout) };
        if !block.is_null() {
            count(layout.size(), 1);
            track(|origins| drop(origins.insert(block as usize, (layout.size(), Backtrace::force_capture()))));
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        track(|origins| drop(origins.remove(&(block as usize))));
        // SAFETY: the block came from `System`, because all of ours do, with this layout.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the block came from `System` with this layout, and the caller keeps the rest of the contract.
        let moved = unsafe { System.realloc(block, layout, new_size) };
        if !moved.is_null() {
            count(layout.size(), -1);
            count(new_size, 1);
            track(|origins| {
                origins.remove(&(block as usize));
                origins.insert(moved as usize, (new_size, Backtrace::force_capture()));
            });
        }
        moved
    }
}
