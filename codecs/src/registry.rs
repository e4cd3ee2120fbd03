//! The users' own codecs, registered for the whole process.
//!
//! Files name a codec by its id alone, so an id means one codec for as long as the process lives:
//! a codec can be added, never replaced or removed.

use std::sync::{Arc, PoisonError, RwLock};

use crate::dict::Dictionary;
use crate::error::CodecError;
use crate::id::{BUILT_IN_NAMES, CUSTOM_ID_MIN};

/// A codec of the user's own, with an id from 128 to 255.
///
/// The bytes given to `decompress` have passed their checksum, but whoever can write the files can
/// write a checksum too: an implementation must not panic, nor allocate by a length it only read.
pub trait BlockCodec: Send + Sync + 'static {
    /// The id that the files hold, from 128 to 255.
    fn id(&self) -> u8;

    /// A name for messages and the command line: lower-case ASCII letters, digits, `-` and `_`.
    fn name(&self) -> &str;

    /// Appends the compressed form of `src` to `out`.
    fn compress(
        &self,
        src: &[u8],
        level: i32,
        dictionary: Option<&Dictionary>,
        out: &mut Vec<u8>,
    ) -> Result<(), CodecError>;

    /// Fills `dst` exactly with what `src` stands for, or fails.
    fn decompress(&self, src: &[u8], dst: &mut [u8], dictionary: Option<&Dictionary>) -> Result<(), CodecError>;
}

/// Makes a user's codec known to the whole process, for good.
///
/// Fails if the id is below 128, or if the id or the name is taken.
pub fn register(codec: Arc<dyn BlockCodec>) -> Result<(), CodecError> {
    let (id, name) = (codec.id(), codec.name().to_owned());
    let refuse = |detail: String| Err(CodecError::Registration(detail.into()));
    if id < CUSTOM_ID_MIN {
        return refuse(format!("id {id} belongs to the format; users' own codecs have ids from 128 to 255"));
    }
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
        return refuse(format!("'{name}' is not a name of 1 to 64 lower-case letters, digits, '-' and '_'"));
    }
    if name == "custom" || BUILT_IN_NAMES.contains(&name.as_str()) {
        return refuse(format!("the name '{name}' belongs to a built-in codec"));
    }
    let mut codecs = CODECS.write().unwrap_or_else(PoisonError::into_inner);
    if let Some(other) = codecs.iter().find(|other| other.id == id || other.name == name) {
        return refuse(format!("'{}' is registered with id {} already", other.name, other.id));
    }
    codecs.push(Arc::new(Registered { id, name, codec }));
    Ok(())
}

/// A user's codec with the id and name it had when it was registered.
pub(crate) struct Registered {
    pub(crate) id: u8,
    pub(crate) name: String,
    pub(crate) codec: Arc<dyn BlockCodec>,
}

/// The user's codec with this id.
pub(crate) fn find(id: u8) -> Option<Arc<Registered>> {
    let codecs = CODECS.read().unwrap_or_else(PoisonError::into_inner);
    codecs.iter().find(|codec| codec.id == id).cloned()
}

static CODECS: RwLock<Vec<Arc<Registered>>> = RwLock::new(Vec::new());
