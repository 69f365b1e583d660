//! The error and future types that all modules use.

use std::pin::Pin;
#[cfg(any(feature = "client", feature = "tracing"))]
use std::{error::Error, io};

/// A boxed error of any type: the error type of session handlers.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Returns an error and its causes, outermost first.
///
/// [`source`](Error::source) of an [`io::Error`] skips the error that the `io::Error` wraps; this function does not.
#[cfg(any(feature = "client", feature = "tracing"))]
pub(crate) fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        let error: &'a (dyn Error + 'static) = *error;
        match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => error.source(),
        }
    })
}
