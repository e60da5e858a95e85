//! The kernel's random numbers: /dev/random, /dev/urandom, getrandom(2), and the kernel's own use.
//!
//! One ChaCha20 generator with fast key erasure. Boot passes in what entropy the machine has; more can be
//! mixed in at any time. Long requests take a key of their own, so that the lock is held for one block.

use crate::iobuf::IoBuf;
use abi::errno::Result;
use chacha::{BLOCK, Csprng};
use core::sync::atomic::{AtomicBool, Ordering};
use sync::SpinLock;
use sync::levels::Leaf;

static POOL: SpinLock<Csprng, Leaf> = SpinLock::new(Csprng::new());
static WORDS: SpinLock<Words, Leaf> = SpinLock::new(Words { words: [0; 4], left: 0 });
static SEEDED: AtomicBool = AtomicBool::new(false);

/// Mixes entropy in and declares the generator ready. At boot, and whenever there is more.
pub fn seed(entropy: &[u8]) {
    mix(entropy);
    SEEDED.store(true, Ordering::Release);
}

/// Mixes in what may be worth something (interrupt times, what a program writes to /dev/urandom).
pub fn mix(entropy: &[u8]) {
    POOL.lock().mix(entropy);
    WORDS.lock().left = 0; // drawn when less was known
}

/// Whether [`seed`] was called: before, getrandom(2) with GRND_NONBLOCK is EAGAIN.
pub fn is_seeded() -> bool {
    SEEDED.load(Ordering::Acquire)
}

/// Fills `out` with random bytes. Any context but interrupts.
pub fn fill(out: &mut [u8]) {
    if out.len() <= 32 {
        return POOL.lock().fill(out);
    }
    let mut stream = POOL.lock().stream();
    stream.fill(out);
}

/// Numbers drawn ahead: a run of the cipher costs 1,200 instructions and gives four, and exec wants six.
struct Words {
    words: [u64; 4],
    left: usize,
}

/// A random number. Any context but interrupts.
pub fn next_u64() -> u64 {
    let mut drawn = WORDS.lock();
    if drawn.left == 0 {
        let mut bytes = [0; 32];
        drop(drawn);
        fill(&mut bytes);
        drawn = WORDS.lock();
        for (word, bytes) in drawn.words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word ^= bytes.iter().fold(0, |word, &byte| word << 8 | u64::from(byte));
        }
        drawn.left = drawn.words.len();
    }
    drawn.left -= 1;
    let left = drawn.left;
    // Handed out once: nothing of it stays.
    core::mem::take(&mut drawn.words[left])
}

/// Fills a program's buffer; stops early for a signal after a page, as Linux does.
pub fn fill_user(buf: &mut IoBuf) -> Result<usize> {
    let mut stream = POOL.lock().stream();
    let mut block = [0; BLOCK];
    while buf.remaining() > 0 {
        let len = buf.remaining().min(BLOCK);
        stream.fill(&mut block[..len]);
        match buf.put(&block[..len]) {
            Ok(count) if count < len => break,
            Ok(_) => {}
            Err(_) if buf.done() > 0 => break,
            Err(error) => return Err(error),
        }
        if buf.done() % arch::PAGE_SIZE == 0 && task::current().signal_pending() {
            break;
        }
    }
    Ok(buf.done())
}
