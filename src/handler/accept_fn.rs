//! A handler from an `async fn` or a closure.

use super::{Accept, ProtocolHandler};
use crate::{handler::request::UpgradeRequest, message::rejection::Rejection};
use std::{any::type_name, fmt};

/// Creates a handler from a function that accepts or rejects requests.
///
/// [`handler_fn`](super::handler_fn) is shorter for a handler that accepts every request.
///
/// The function can be an `async fn`. Its future may borrow the request:
///
/// ```
/// use http::StatusCode;
/// use tower_upgrade::{Accept, Rejection, UpgradeLayer, UpgradeRequest, accept_fn, copy};
///
/// async fn echo(request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
///     let token = request.read_body(1024).await?;
///     if token != "secret" {
///         return Err(StatusCode::UNAUTHORIZED.into());
///     }
///     Ok(Accept::new(|session| async move {
///         let (mut reader, mut writer) = tokio::io::split(session.into_io());
///         copy(&mut reader, &mut writer).await?;
///         Ok(())
///     }))
/// }
///
/// let layer = UpgradeLayer::new().protocol("echo", accept_fn(echo));
/// ```
///
/// The function can be a closure that captures state. Its parameter needs the type annotation, and its future must own
/// the data that it uses:
///
/// ```
/// use http::StatusCode;
/// use std::sync::Arc;
/// use tower_upgrade::{Accept, UpgradeLayer, UpgradeRequest, accept_fn};
/// # struct Database;
/// # impl Database {
/// #     async fn find_user(&self, _token: &[u8]) -> Option<String> { None }
/// # }
///
/// let database = Arc::new(Database);
/// let chat = accept_fn(move |request: &mut UpgradeRequest| {
///     let token = request.headers().get("token").cloned();
///     let database = database.clone();
///     async move {
///         let token = token.ok_or(StatusCode::UNAUTHORIZED)?;
///         let user = database.find_user(token.as_bytes()).await.ok_or(StatusCode::FORBIDDEN)?;
///         Ok(Accept::new(|session| async move {
///             println!("{user} is connected");
///             drop(session);
///             Ok(())
///         }))
///     }
/// });
/// let layer = UpgradeLayer::new().protocol("chat", chat);
/// ```
///
/// A future that borrows both the request and captured state needs a type that implements [`ProtocolHandler`].
pub fn accept_fn<F>(accept: F) -> AcceptFn<F>
where
    F: for<'a> AsyncAccept<'a>,
{
    AcceptFn { accept }
}

/// A handler from a function that accepts or rejects requests, created by [`accept_fn`].
#[derive(Clone)]
pub struct AcceptFn<F> {
    accept: F,
}

impl<F> ProtocolHandler for AcceptFn<F>
where
    F: for<'a> AsyncAccept<'a>,
{
    async fn accept(&self, request: &mut UpgradeRequest) -> Result<Accept, Rejection> {
        (self.accept)(request).await
    }
}

impl<F> fmt::Debug for AcceptFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AcceptFn").field(&type_name::<F>()).finish()
    }
}

/// An asynchronous function that [`accept_fn`] takes: `async fn(&mut UpgradeRequest) -> Result<Accept, Rejection>`.
///
/// Functions and closures of this form implement the trait. It cannot be implemented for other types.
// `AsyncFn(&mut UpgradeRequest)` cannot require that the future is `Send`. A bound on `Fn(&mut UpgradeRequest) -> Fut`
// cannot name the lifetime of the request in `Fut`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an async function that accepts or rejects an upgrade request",
    label = "expected `async fn(&mut UpgradeRequest) -> Result<Accept, Rejection>`",
    note = "the function must be `Send + Sync + 'static`, and its future `Send`",
    note = "the future of a closure cannot borrow captured values: clone them into an `async move` block, or implement \
            `ProtocolHandler` for a type that holds them"
)]
pub trait AsyncAccept<'a>:
    Fn(&'a mut UpgradeRequest) -> Self::Future + Send + Sync + 'static
{
    /// The future of the decision.
    type Future: Future<Output = Result<Accept, Rejection>> + Send;
}

impl<'a, F, Fut> AsyncAccept<'a> for F
where
    F: Fn(&'a mut UpgradeRequest) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Accept, Rejection>> + Send,
{
    type Future = Fut;
}
