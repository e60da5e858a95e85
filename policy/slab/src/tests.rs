use super::debug::*;
use super::*;
use proptest::prelude::*;

impl Links for Vec<u16> {
    fn get(&self, slot: u16) -> u16 {
        self[slot as usize]
    }
    fn set(&mut self, slot: u16, next: u16) {
        self[slot as usize] = next;
    }
}

#[test]
fn size_classes_cover_and_fit() {
    for align in [1, 8, 16, 32, 64, 128, 256, 1024, 4096] {
        for size in 1..=9000usize {
            let Some(class) = size_class(size, align) else {
                assert!(size > MAX_KMALLOC);
                continue;
            };
            assert!(KMALLOC_SIZES[class] >= size, "{size} {align}");
            assert!(class_align(class) % align == 0, "{size} {align} {class}");
            let smaller = (0..class).any(|c| KMALLOC_SIZES[c] >= size && class_align(c) >= align);
            assert!(!smaller, "{size} {align} could use a smaller class");
        }
    }
    assert_eq!(kmalloc_name(size_class(64, 8).unwrap()), "kmalloc-64");
    assert_eq!(size_class(0, 1), Some(0));
}

#[test]
fn geometry_of_the_kmalloc_caches() {
    let order = |size| Layout::new(size, 8, DebugFlags::NONE).map(|l| (l.order, l.objects)).unwrap();
    assert_eq!(order(8), (0, 512));
    assert_eq!(order(64), (0, 64));
    assert_eq!(order(512), (0, 8));
    assert_eq!(order(1024), (1, 8));
    assert_eq!(order(2048), (2, 8));
    assert_eq!(order(4096), (3, 8));
    assert_eq!(order(8192), (3, 4));
    assert_eq!(Layout::new(0, 8, DebugFlags::NONE), Err(BadLayout));
    assert_eq!(Layout::new(8, 3, DebugFlags::NONE), Err(BadLayout));
    assert_eq!(Layout::new(1 << 20, 8, DebugFlags::NONE), Err(BadLayout));
}

#[test]
fn flags_parse_like_the_boot_argument() {
    assert_eq!(DebugFlags::parse(""), Ok(DebugFlags::ALL));
    assert_eq!(DebugFlags::parse("FZPU"), Ok(DebugFlags::ALL));
    assert_eq!(DebugFlags::parse("P").map(|f| (f.poison, f.red_zone)), Ok((true, false)));
    assert_eq!(DebugFlags::parse("-"), Ok(DebugFlags::NONE));
    assert_eq!(DebugFlags::parse("Q"), Err('Q'));
}

fn slot_of(layout: &Layout) -> Vec<u8> {
    let mut slot = vec![0xee; layout.stride];
    init_slot(layout, &mut slot);
    slot
}

#[test]
fn overwritten_poison_is_reported_in_linux_words() {
    let layout = Layout::new(64, 8, DebugFlags::ALL).unwrap();
    let mut slot = slot_of(&layout);
    slot[layout.object_offset + 5] = 0x6a;
    let finding = on_alloc(&layout, &mut slot).unwrap_err();
    let text = finding.report("kmalloc-64", 0x1000).to_string();
    assert!(text.starts_with("BUG kmalloc-64: Poison overwritten\n"), "{text}");
    assert!(text.ends_with("First byte 0x6a instead of 0x6b"), "{text}");
}

#[test]
fn writing_past_the_end_hits_the_right_red_zone() {
    let layout = Layout::new(61, 8, DebugFlags::ALL).unwrap();
    let mut slot = slot_of(&layout);
    on_alloc(&layout, &mut slot).unwrap();
    slot[layout.object_offset + 61] = 0;
    let finding = on_free(&layout, &mut slot).unwrap_err();
    assert_eq!(
        finding.report("kmalloc-64", 0).to_string().lines().next(),
        Some("BUG kmalloc-64: Right Redzone overwritten")
    );
    assert_eq!((finding.found, finding.expected), (0, RED_ACTIVE));
    assert_eq!(check_free(&layout, &slot), Ok(()));
}

fn flags() -> impl Strategy<Value = DebugFlags> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(checks, red_zone, poison)| DebugFlags {
        checks,
        red_zone,
        poison,
    })
}

proptest! {
    #[test]
    fn objects_are_aligned_apart_and_inside(size in 1usize..8000, align in 0u32..9, debug in flags(), colour: u16) {
        let align = 1 << align;
        let Ok(layout) = Layout::new(size, align, debug) else {
            prop_assert!(size > 7000);
            return Ok(());
        };
        prop_assert!(layout.objects >= 1);
        prop_assert!(layout.link_offset % 4 == 0 && layout.link_offset + 4 <= layout.stride);
        prop_assert!(layout.object_offset + size <= layout.stride);
        for index in [0, layout.objects / 2, layout.objects - 1] {
            let at = layout.object_at(index, colour);
            prop_assert_eq!(at % align, 0);
            prop_assert!(layout.slot_at(index, colour) + layout.stride <= layout.slab_bytes());
            prop_assert_eq!(layout.index_of(at, colour), Some(index));
            prop_assert_eq!(layout.index_of(at + 1, colour), None);
        }
        prop_assert_eq!(layout.index_of(layout.object_at(layout.objects, colour), colour), None);
    }

    #[test]
    fn a_slot_is_never_out_twice(objects in 1u16..600, ops in prop::collection::vec(any::<(bool, u16)>(), 0..2000)) {
        let mut links = vec![0; objects as usize];
        let mut slab = SlabState::new(objects);
        let mut out: Vec<u16> = Vec::new();
        for (take, which) in ops {
            if take {
                match slab.take(&links) {
                    Some(slot) => {
                        prop_assert!(slot < objects && !out.contains(&slot));
                        out.push(slot);
                    }
                    None => prop_assert_eq!(out.len(), objects as usize),
                }
            } else if !out.is_empty() {
                let slot = out.swap_remove(which as usize % out.len());
                prop_assert!(!slab.is_free(&links, slot));
                slab.give(&mut links, slot);
                prop_assert!(slab.is_free(&links, slot));
            }
            prop_assert_eq!(SlabState::from_bits(slab.to_bits()), slab);
            prop_assert_eq!(slab.in_use() as usize, out.len());
            prop_assert_eq!(slab.is_full(), out.len() == objects as usize);
        }
    }

    #[test]
    fn any_changed_byte_of_a_free_slot_is_found(size in 1usize..300, align in 0u32..7, at: prop::sample::Index, by in 1u8..) {
        let layout = Layout::new(size, 1 << align, DebugFlags::ALL).unwrap();
        let mut slot = slot_of(&layout);
        prop_assert_eq!(check_free(&layout, &slot), Ok(()));
        let at = at.index(layout.stride);
        slot[at] = slot[at].wrapping_add(by);
        let link = layout.link_offset..layout.link_offset + 4;
        match check_free(&layout, &slot) {
            Ok(()) => prop_assert!(link.contains(&at)),
            Err(finding) => prop_assert_eq!((finding.first, finding.last), (at, at)),
        }
    }
}
