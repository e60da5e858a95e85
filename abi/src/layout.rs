//! Structures that cross the border to programs, as bytes.
//!
//! **Problem.** A structure handed to a program must have Linux's exact layout, and no byte of kernel
//! memory may leak through its padding. Copying a Rust struct byte by byte would need `unsafe`.
//!
//! **Interface.** [`abi_struct!`] declares a struct of integers with its size in bytes. It gives
//! `to_bytes`, `from_bytes` and `SIZE`, and fails to compile when the fields do not fill the size
//! exactly: padding is written out as fields, so it is zero unless somebody sets it.
//!
//! **Idea.** `to_ne_bytes` into a fixed array at constant offsets; the compiler turns it into plain stores.

/// An integer that can be a field of a structure of the ABI.
pub trait Scalar: Copy + Default {
    const SIZE: usize;
    /// Writes the value at the start of `out`, which is at least `SIZE` long.
    fn put(self, out: &mut [u8]);
    /// Reads the value from the start of `bytes`, which is at least `SIZE` long.
    fn take(bytes: &[u8]) -> Self;
}

macro_rules! scalars {
    ($($t:ty)*) => {$(
        impl Scalar for $t {
            const SIZE: usize = size_of::<$t>();
            #[inline]
            fn put(self, out: &mut [u8]) {
                out[..Self::SIZE].copy_from_slice(&self.to_ne_bytes());
            }
            #[inline]
            fn take(bytes: &[u8]) -> Self {
                let mut raw = [0; size_of::<$t>()];
                raw.copy_from_slice(&bytes[..Self::SIZE]);
                <$t>::from_ne_bytes(raw)
            }
        }
    )*};
}

scalars!(u8 i8 u16 i16 u32 i32 u64 i64 usize isize);

impl<T: Scalar, const N: usize> Scalar for [T; N]
where
    [T; N]: Default,
{
    const SIZE: usize = T::SIZE * N;
    #[inline]
    fn put(self, out: &mut [u8]) {
        for (i, value) in self.into_iter().enumerate() {
            value.put(&mut out[i * T::SIZE..]);
        }
    }
    #[inline]
    fn take(bytes: &[u8]) -> Self {
        core::array::from_fn(|i| T::take(&bytes[i * T::SIZE..]))
    }
}

/// Declares a structure of the ABI: `abi_struct! { /// doc  pub struct Name = 16 { pub a: u64, ... } }`.
/// `packed` before `struct` says that a field may be unaligned (epoll_event on x86-64); elsewhere a
/// field off its natural alignment does not compile.
#[macro_export]
macro_rules! abi_struct {
    ($(#[$doc:meta])* pub packed struct $name:ident = $size:literal { $($fields:tt)* }) => {
        $crate::abi_struct!(@make [$(#[$doc])*] $name $size false { $($fields)* });
    };
    ($(#[$doc:meta])* pub struct $name:ident = $size:literal { $($fields:tt)* }) => {
        $crate::abi_struct!(@make [$(#[$doc])*] $name $size true { $($fields)* });
    };
    (@make [$(#[$doc:meta])*] $name:ident $size:literal $aligned:literal
     { $($(#[$fdoc:meta])* pub $field:ident: $t:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name { $($(#[$fdoc])* pub $field: $t,)* }

        impl $name {
            /// Bytes in the program's view.
            #[allow(dead_code)]
            pub const SIZE: usize = $size;

            const LAYOUT: () = {
                let mut at = 0;
                $(
                    assert!(!$aligned || at % align_of::<$t>() == 0, concat!(stringify!($field), " is unaligned"));
                    at += <$t as $crate::layout::Scalar>::SIZE;
                )*
                assert!(at == $size, concat!(stringify!($name), " does not fill its size"));
            };

            /// The bytes a program sees.
            #[inline]
            #[allow(unused_assignments)]
            pub fn to_bytes(&self) -> [u8; $size] {
                let () = Self::LAYOUT;
                let mut out = [0; $size];
                let mut at = 0;
                $(
                    $crate::layout::Scalar::put(self.$field, &mut out[at..]);
                    at += <$t as $crate::layout::Scalar>::SIZE;
                )*
                out
            }

            /// The structure a program wrote.
            #[inline]
            #[allow(unused_assignments)]
            pub fn from_bytes(bytes: &[u8; $size]) -> $name {
                let () = Self::LAYOUT;
                let mut at = 0;
                $(
                    let $field = <$t as $crate::layout::Scalar>::take(&bytes[at..]);
                    at += <$t as $crate::layout::Scalar>::SIZE;
                )*
                $name { $($field),* }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    abi_struct! {
        /// For the test.
        pub struct Sample = 16 { pub a: u32, pub pad: u32, pub b: [u16; 2], pub c: i32, }
    }

    #[test]
    fn bytes_and_back() {
        let sample = Sample { a: 1, pad: 0, b: [2, 3], c: -4 };
        let bytes = sample.to_bytes();
        assert_eq!(&bytes[8..12], &[2, 0, 3, 0]);
        assert_eq!(Sample::from_bytes(&bytes), sample);
    }
}
