//! Building the address space of a program.

use super::image::Image;
use super::stack::{self, Auxiliary};
use super::{Request, read_head, vdso};
use crate::exec::creds::NewCred;
use crate::{Ctx, Result};
use abi::Errno;
use abi::mm::{MapFlags, Prot};
use abi::process::{ADDR_NO_RANDOMIZE, READ_IMPLIES_EXEC};
use abi::resource::RLIMIT_STACK;
use alloc::sync::Arc;
use arch::PAGE_SIZE;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;
use elf::abi::{PF_R, PF_W, PF_X};
use elf::segment::ProgramHeader;
use vfs::{Caller, File, Look, Start};
use vm::{AddressSpace, Layout, LayoutInput, Limits, MapRequest, ProgramInfo, VmFile};

const PAGE: u64 = PAGE_SIZE as u64;

/// A program that is loaded and has not started.
pub(super) struct Program {
    pub mm: Arc<AddressSpace>,
    pub entry: usize,
    pub sp: usize,
    /// Address of the vDSO's sigreturn code; 0: none.
    pub sigreturn: usize,
    pub file: Arc<File>,
}

/// Opens a program by a path that the kernel has (an interpreter).
pub(super) fn open_kernel_named(ctx: &Ctx, path: &[u8]) -> Result<Arc<File>> {
    vfs::open::open_exec(
        &Caller::thread(ctx.cred(), ctx.fs(), ctx.thread.tid()),
        Start::Cwd,
        path,
        Look::FOLLOW,
    )
}

/// Loads the ELF file of the request with its interpreter, and makes the stack.
pub(super) fn load(
    ctx: &Ctx,
    request: &Request,
    head: &[u8],
    called: &[u8],
    cred: &NewCred,
) -> Result<Program> {
    let image = Image::read(&request.file, head)?;
    let interpreter = match &image.interpreter {
        Some(name) => Some(open_interpreter(ctx, name)?),
        None => None,
    };
    let layout = choose_layout(ctx, cred.secure);
    let mm = AddressSpace::with_layout(layout)?;
    let bias = if image.relocatable { choose_bias(&image, &layout, interpreter.is_some()) } else { 0 };
    let placed = map_image(&mm, &request.file, &image, bias, ctx)?;
    let heap = (placed.end + PAGE - 1) & !(PAGE - 1);
    mm.set_heap_start((heap + layout.brk_offset) as usize);
    let (entry, base) = match &interpreter {
        Some((file, interpreter)) => {
            let bias = below(layout.mmap_base, interpreter);
            map_image(&mm, file, interpreter, bias, ctx)?;
            (interpreter.entry.wrapping_add(bias), bias)
        }
        None => (image.entry.wrapping_add(bias), 0),
    };
    let vdso = vdso::map(&mm, &layout)?;
    let auxiliary = Auxiliary {
        headers: image.headers_addr.wrapping_add(bias),
        header_count: u64::from(image.headers),
        base,
        entry: image.entry.wrapping_add(bias),
        vdso: vdso.base as u64,
        cred: &cred.cred,
        secure: cred.secure,
    };
    let all_exec = ctx.process.personality.load(Relaxed) & READ_IMPLIES_EXEC != 0;
    let made = stack::build(&mm, request, called, &auxiliary, image.executable_stack || all_exec)?;
    mm.set_program(ProgramInfo {
        code: placed.code,
        data: placed.data,
        stack_start: made.sp as u64,
        args: made.args,
        env: made.env,
        auxv: made.auxv,
        exe: Some(request.file.clone() as Arc<dyn VmFile>),
    });
    Ok(Program {
        mm,
        entry: entry as usize,
        sp: made.sp,
        sigreturn: vdso.sigreturn,
        file: request.file.clone(),
    })
}

/// The interpreter must be a program by itself, without one of its own. ELIBBAD when it is none.
fn open_interpreter(ctx: &Ctx, name: &[u8]) -> Result<(Arc<File>, Image)> {
    let file = open_kernel_named(ctx, name)?;
    let head = read_head(&file)?;
    let image = Image::read(&file, &head).map_err(|errno| match errno {
        Errno::ENOEXEC => Errno::ELIBBAD,
        other => other,
    })?;
    Ok((file, image))
}

/// /proc/sys/kernel/randomize_va_space: 0 nothing, 1 all but the heap, 2 the heap too.
pub static RANDOMIZE_VA_SPACE: AtomicU32 = AtomicU32::new(2);

fn choose_layout(ctx: &Ctx, secure: bool) -> Layout {
    let how = RANDOMIZE_VA_SPACE.load(Relaxed);
    let wanted = ctx.process.personality.load(Relaxed) & ADDR_NO_RANDOMIZE == 0 || secure;
    let randomised = how > 0 && wanted;
    let words = || {
        let mut words = [0u64; 4].map(|_| vfs::random::next_u64());
        if how < 2 {
            // The heap stays right behind the program.
            words[3] = 0;
        }
        words
    };
    Layout::choose(&LayoutInput {
        user_top: arch::mmu::user_top() as u64,
        stack_limit: ctx.limit(RLIMIT_STACK),
        random: randomised.then(words),
    })
}

/// What to add to a position-independent program's addresses. A program without an interpreter (an
/// interpreter that is run by hand, or static-pie) goes where libraries go, away from the heap.
fn choose_bias(image: &Image, layout: &Layout, interpreted: bool) -> u64 {
    if !interpreted {
        return below(layout.mmap_base, image);
    }
    let (first, _) = image.span();
    (layout.pie_base & !(image.alignment() - 1)).wrapping_sub(first)
}

/// The bias that puts an image right below `top`.
fn below(top: u64, image: &Image) -> u64 {
    let (first, end) = image.span();
    if !image.relocatable {
        return 0;
    }
    (top.saturating_sub(end - first) & !(image.alignment() - 1)).wrapping_sub(first)
}

struct Placed {
    code: (u64, u64),
    data: (u64, u64),
    /// The end of the last segment.
    end: u64,
}

fn map_image(
    mm: &Arc<AddressSpace>,
    file: &Arc<File>,
    image: &Image,
    bias: u64,
    limits: &dyn Limits,
) -> Result<Placed> {
    let mut placed = Placed { code: (u64::MAX, 0), data: (0, 0), end: 0 };
    for segment in &image.segments {
        let start = segment.p_vaddr.wrapping_add(bias);
        let end = start.checked_add(segment.p_memsz).ok_or(Errno::ENOEXEC)?;
        map_segment(mm, file, segment, start, limits)?;
        let file_end = start + segment.p_filesz;
        if segment.p_flags & PF_X != 0 {
            placed.code = (placed.code.0.min(start), placed.code.1.max(file_end));
        } else if start >= placed.data.0 {
            placed.data = (start, file_end);
        }
        placed.end = placed.end.max(end);
    }
    if placed.code.0 == u64::MAX {
        placed.code = (0, 0);
    }
    Ok(placed)
}

fn prot_of(segment: &ProgramHeader) -> Prot {
    let mut prot = Prot::empty();
    prot.set(Prot::READ, segment.p_flags & PF_R != 0);
    prot.set(Prot::WRITE, segment.p_flags & PF_W != 0);
    prot.set(Prot::EXEC, segment.p_flags & PF_X != 0);
    prot
}

/// Maps the file's part, zeroes the rest of its last page, and maps memory for what goes beyond.
fn map_segment(
    mm: &Arc<AddressSpace>,
    file: &Arc<File>,
    segment: &ProgramHeader,
    start: u64,
    limits: &dyn Limits,
) -> Result<()> {
    let prot = prot_of(segment);
    let map_start = start & !(PAGE - 1);
    let file_end = start + segment.p_filesz;
    let page_end = (file_end + PAGE - 1) & !(PAGE - 1);
    let end = (start + segment.p_memsz + PAGE - 1) & !(PAGE - 1);
    let fixed = MapFlags::PRIVATE | MapFlags::FIXED;
    let mut next = map_start;
    if segment.p_filesz > 0 {
        mm.mmap(
            &MapRequest {
                addr: map_start as usize,
                len: (page_end - map_start) as usize,
                prot,
                flags: fixed,
                file: Some(file.clone() as Arc<dyn VmFile>),
                offset: segment.p_offset - (start - map_start),
            },
            limits,
        )?;
        next = page_end;
        let clear = (page_end - file_end) as usize;
        if segment.p_memsz > segment.p_filesz && clear > 0 && prot.contains(Prot::WRITE) {
            let cleared = mm.clear_remote(file_end as usize, clear);
            if cleared < clear {
                return Err(Errno::ENOMEM);
            }
        }
    }
    if end > next {
        let request = MapRequest {
            addr: next as usize,
            flags: fixed | MapFlags::ANONYMOUS,
            ..MapRequest::anonymous((end - next) as usize, prot)
        };
        mm.mmap(&request, limits)?;
    }
    Ok(())
}
