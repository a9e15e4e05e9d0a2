//! Inner loops for the registers that the processor has.

/// Compiles a function twice, the second time for AVX2, and takes that where the processor has it. The build itself is
/// for the least processor of the target, whose registers are half as wide and, on x86, lack a 32-bit multiplication.
/// Integer arithmetic and `f32` products are the same either way: no multiply-add is fused.
macro_rules! wide {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $t:ty),* $(,)?) $body:block) => {
        $(#[$doc])*
        fn $name($($arg: $t),*) {
            #[inline(always)]
            fn body($($arg: $t),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $t),*) {
                    body($($arg),*);
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has AVX2, as the line above found.
                    return unsafe { avx2($($arg),*) };
                }
            }
            body($($arg),*);
        }
    };
}

pub(super) use wide;
