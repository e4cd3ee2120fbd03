//! The one call of Zstandard's dictionary builder that `zstd-safe` does not wrap.
#![allow(unsafe_code)]

use std::ffi::c_uint;

use zstd_safe::zstd_sys::{ZDICT_finalizeDictionary, ZDICT_getErrorName, ZDICT_isError, ZDICT_params_t};

use crate::error::CodecError;

/// Puts a header with statistics of the samples, which lie back to back in `joined`, in front of `content`.
/// The result has at most `max_size` bytes; where that is too few the content loses its beginning.
pub(crate) fn finalize(
    content: &[u8],
    joined: &[u8],
    lens: &[usize],
    max_size: usize,
    level: i32,
) -> Result<Vec<u8>, CodecError> {
    let refused = |detail: String| CodecError::Dictionary(detail.into());
    let within = lens.iter().try_fold(0usize, |sum, len| sum.checked_add(*len)).is_some_and(|sum| sum <= joined.len());
    let count = c_uint::try_from(lens.len()).ok().filter(|_| within && content.len() <= max_size);
    let Some(count) = count else { return Err(refused("the samples are not as long as they claim".into())) };
    let mut out = Vec::new();
    out.try_reserve_exact(max_size).map_err(|_| CodecError::out_of_memory(max_size))?;
    out.resize(max_size, 0u8);
    let params = ZDICT_params_t { compressionLevel: level, notificationLevel: 0, dictID: 0 };
    // SAFETY: each pointer comes with the length of the slice that it was taken from, `lens` has `count`
    // numbers whose sum was found to lie within `joined`, and `out`, which nothing else points into, has
    // `max_size` bytes, no fewer than `content`. The call keeps none of the pointers.
    let len = unsafe {
        ZDICT_finalizeDictionary(
            out.as_mut_ptr().cast(),
            out.len(),
            content.as_ptr().cast(),
            content.len(),
            joined.as_ptr().cast(),
            lens.as_ptr(),
            count,
            params,
        )
    };
    // SAFETY: it looks at the number only.
    if unsafe { ZDICT_isError(len) } != 0 {
        // SAFETY: for every number it gives the address of a constant string that ends with a zero.
        let name = unsafe { std::ffi::CStr::from_ptr(ZDICT_getErrorName(len)) };
        return Err(refused(format!("{} samples do not make a dictionary ({})", lens.len(), name.to_string_lossy())));
    }
    out.truncate(len);
    Ok(out)
}
