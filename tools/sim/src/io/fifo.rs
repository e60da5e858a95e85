//! `none`: requests go to the device as they come, joined when they are neighbours of the last one.

use iosched_api::{Dir, Id, Next, Request, Scheduler, SchedulerInfo, Side};
use std::collections::VecDeque;

pub const INFO: SchedulerInfo = SchedulerInfo {
    name: "none",
    about: "first come, first served",
    make: |_| Ok(Box::new(Fifo::default())),
};

#[derive(Default)]
struct Fifo {
    queue: VecDeque<(Id, Request)>,
}

impl Scheduler for Fifo {
    fn insert(&mut self, id: Id, request: &Request, _now_ns: u64) {
        self.queue.push_back((id, *request));
    }

    fn next(&mut self, _now_ns: u64) -> Next {
        self.queue.pop_front().map_or(Next::Nothing, |(id, _)| Next::Start(id))
    }

    fn find_merge(&self, dir: Dir, start: u64, _end: u64) -> Option<(Id, Side)> {
        let (id, last) = self.queue.back()?;
        (last.dir == dir && last.end() == start).then_some((*id, Side::Back))
    }

    fn grown(&mut self, id: Id, request: &Request, _now_ns: u64) {
        if let Some(entry) = self.queue.iter_mut().find(|entry| entry.0 == id) {
            entry.1 = *request;
        }
    }

    fn remove(&mut self, id: Id) -> bool {
        let before = self.queue.len();
        self.queue.retain(|entry| entry.0 != id);
        self.queue.len() != before
    }

    fn waiting(&self) -> usize {
        self.queue.len()
    }
}
