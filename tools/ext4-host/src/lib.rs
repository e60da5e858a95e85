//! What the tests of lib/ext4 share: a device in memory that records every write, an environment over it, a mount with
//! a small page cache, and the tools of e2fsprogs.

mod device;
mod image;
mod mount;
mod rng;

pub use device::{Device, Entry, HostEnv};
pub use image::{Image, OPTIONS, have_tools};
pub use mount::Mount;
pub use rng::Rng;
