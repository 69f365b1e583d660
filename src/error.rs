//! Types of errors and futures that every module uses.

use std::pin::Pin;
#[cfg(any(feature = "client", feature = "tracing"))]
use std::{error::Error, io};

/// Any error: the type that session handlers end with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// An error and the errors in it, outermost first.
///
/// An [`io::Error`] skips the error that it was made of in [`source`](Error::source): this does not.
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
