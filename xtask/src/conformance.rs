//! To be written.

pub(crate) fn main(_args: &[String]) -> crate::Result<bool> {
    Err("not yet".into())
}
