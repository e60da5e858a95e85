//! Rock Ridge: fields in the system use area of a record, and in areas that continue it.
//!
//! A field is two letters, its length, a version, and data. What makes no sense ends the area.

use crate::date;
use crate::record::Times;
use crate::{Disk, SECTOR, u32_le};
use abi::{Errno, errno::Result};
use alloc::vec::Vec;

/// Areas that a record may continue in: each takes reading.
const MAX_AREAS: usize = 32;
/// The longest text of a link.
const MAX_LINK: usize = 4095;

/// What a file has on a Unix system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Posix {
    /// Type and permissions.
    pub mode: u32,
    pub links: u32,
    pub uid: u32,
    pub gid: u32,
    /// Major and minor number.
    pub device: (u32, u32),
}

/// What all fields of a record say together.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    pub name: Vec<u8>,
    pub posix: Option<Posix>,
    pub(crate) device: (u32, u32),
    /// The text of a symbolic link.
    pub link: Option<Vec<u8>>,
    /// The component that the next one continues.
    pub(crate) link_goes_on: bool,
    pub times: Times,
    /// The directory was moved up, and is to be found where somebody points to it: not here.
    pub relocated: bool,
    /// Here is to be the directory with this block.
    pub child: Option<u32>,
}

/// Where an area goes on: block, byte in it, length.
struct Continuation {
    block: u32,
    offset: u32,
    len: u32,
}

impl Fields {
    /// Reads the area of a record, and those that it continues in.
    pub fn read<D: Disk>(disk: &mut D, area: &[u8], block_bits: u32, times: Times) -> Result<Fields> {
        let mut fields = Fields { times, ..Fields::default() };
        let mut more = fields.take_area(area)?;
        let mut areas = 0;
        let mut bytes = Vec::new();
        while let Some(next) = more.take() {
            areas += 1;
            let (offset, len) = (u64::from(next.offset), next.len as usize);
            if areas > MAX_AREAS || len > SECTOR || offset >= SECTOR as u64 {
                return Err(Errno::EIO);
            }
            bytes.clear();
            bytes.try_reserve(len).map_err(|_| Errno::ENOMEM)?;
            bytes.resize(len, 0);
            disk.read((u64::from(next.block) << block_bits) + offset, &mut bytes)?;
            more = fields.take_area(&bytes)?;
        }
        if let Some(posix) = &mut fields.posix {
            posix.device = fields.device;
        }
        Ok(fields)
    }

    fn take_area(&mut self, mut area: &[u8]) -> Result<Option<Continuation>> {
        let mut more = None;
        while let [first, second, len, _, ..] = *area {
            let len = usize::from(len);
            if len < 4 || len > area.len() {
                break;
            }
            let (field, rest) = area.split_at(len);
            match &[first, second] {
                b"ST" => break,
                b"CE" if len >= 28 => {
                    let (block, offset) = (u32_le(field, 4), u32_le(field, 12));
                    more = Some(Continuation { block, offset, len: u32_le(field, 20) });
                }
                b"NM" if len >= 5 => self.take_name(field[4], &field[5..])?,
                b"PX" if len >= 36 => {
                    let (mode, links) = (u32_le(field, 4), u32_le(field, 12));
                    let (uid, gid) = (u32_le(field, 20), u32_le(field, 28));
                    self.posix = Some(Posix { mode, links, uid, gid, device: (0, 0) });
                }
                b"PN" if len >= 20 => self.device = device(u32_le(field, 4), u32_le(field, 12)),
                b"SL" if len >= 5 => self.take_link(&field[5..])?,
                b"TF" if len >= 5 => self.take_times(field[4], &field[5..]),
                b"CL" if len >= 12 => self.child = Some(u32_le(field, 4)),
                b"RE" => self.relocated = true,
                _ => {}
            }
            area = rest;
        }
        Ok(more)
    }

    fn take_name(&mut self, flags: u8, text: &[u8]) -> Result<()> {
        const SELF_OR_PARENT: u8 = 6;
        if flags & SELF_OR_PARENT == 0 {
            push(&mut self.name, text, MAX_LINK)?;
        }
        Ok(())
    }

    /// Components of a link's text: flags, length, characters.
    fn take_link(&mut self, mut components: &[u8]) -> Result<()> {
        const CONTINUES: u8 = 1;
        let mut text = self.link.take().unwrap_or_default();
        while let [flags, len, rest @ ..] = components {
            let (content, after) = rest.split_at_checked(usize::from(*len)).ok_or(Errno::EIO)?;
            if !text.is_empty() && !self.link_goes_on && text != b"/" {
                push(&mut text, b"/", MAX_LINK)?;
            }
            match flags & 14 {
                2 => push(&mut text, b".", MAX_LINK)?,
                4 => push(&mut text, b"..", MAX_LINK)?,
                8 => {
                    text.clear();
                    push(&mut text, b"/", MAX_LINK)?;
                }
                _ => push(&mut text, content, MAX_LINK)?,
            }
            self.link_goes_on = flags & CONTINUES != 0;
            components = after;
        }
        self.link = Some(text);
        Ok(())
    }

    fn take_times(&mut self, flags: u8, mut stamps: &[u8]) {
        const LONG: u8 = 0x80;
        let len = if flags & LONG != 0 { 17 } else { 7 };
        let times = &mut self.times;
        let targets = [&mut times.made, &mut times.written, &mut times.read, &mut times.changed];
        for (bit, target) in targets.into_iter().enumerate() {
            if flags >> bit & 1 == 0 {
                continue;
            }
            let Some((stamp, rest)) = stamps.split_at_checked(len) else { return };
            *target = if len == 17 { date::long(stamp) } else { date::short(stamp) };
            stamps = rest;
        }
    }
}

/// Numbers of a device: apart, or both in the lower one as old systems have them.
fn device(high: u32, low: u32) -> (u32, u32) {
    if high == 0 && low & !0xff != 0 { (low >> 8, low & 0xff) } else { (high, low) }
}

fn push(to: &mut Vec<u8>, bytes: &[u8], most: usize) -> Result<()> {
    if to.len() + bytes.len() > most {
        return Err(Errno::ENAMETOOLONG);
    }
    to.try_reserve(bytes.len()).map_err(|_| Errno::ENOMEM)?;
    to.extend_from_slice(bytes);
    Ok(())
}
