//! Data that has been checked: types say that a field is a number, rules that it is a price.

use garde::Validate;
use serde::de::DeserializeOwned;
use socketio_proto::Args;

use crate::{FromEvent, HandlerContext, HandlerError, Rejection};

/// Like [`Data`](crate::Data), checked by the rules of the crate `garde` before the handler is called.
///
/// What breaks a rule is answered with the code `invalid` and says which field is wrong and how:
/// `{"error": {"code": "invalid", "message", "details": {"fields": {"text": "length is greater than 200"}}}}`. The first 32
/// fields are named.
///
/// ```
/// use garde::Validate;
/// use socketio_core::Valid;
///
/// #[derive(serde::Deserialize, Validate)]
/// struct Say {
///     #[garde(length(min = 1, max = 200))]
///     text: String,
///     #[garde(range(max = 5))]
///     stars: u8,
/// }
///
/// async fn say(Valid(say): Valid<Say>) -> String {
///     say.text
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Valid<T>(pub T);

/// So many fields are named in an answer: clients choose how much is wrong.
const MOST: usize = 32;

impl<Cx: HandlerContext, T: DeserializeOwned + Validate<Context: Default>> FromEvent<Cx> for Valid<T> {
    fn from_event(_: &mut Cx, args: &Args<'_>) -> Result<Self, Rejection> {
        let value: T = args.deserialize()?;
        match value.validate() {
            Ok(()) => Ok(Self(value)),
            Err(report) => {
                let fields = report.iter().take(MOST).map(|(path, error)| (path.to_string(), error.to_string()));
                Err(HandlerError::new("invalid", "what was sent is not valid").fields(fields).into())
            }
        }
    }
}
