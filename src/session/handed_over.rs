//! The connection that an HTTP client hands over with an upgrade response.

use crate::{
    error::{BoxError, BoxFuture},
    io::box_io::BoxIo,
    session::{pending_upgrade::PendingUpgrade, upgraded::Upgraded},
};
use http::Extensions;
use hyper::upgrade::OnUpgrade;

/// Takes the connection out of the extensions of a response, if the client hands it over.
pub(crate) fn take(extensions: &mut Extensions) -> Option<BoxFuture<Result<Upgraded, BoxError>>> {
    let other = extensions
        .remove::<PendingUpgrade>()
        .and_then(PendingUpgrade::take);
    let hyper = extensions.remove::<OnUpgrade>();
    other.or_else(|| {
        let hyper = hyper?;
        Some(Box::pin(async move {
            Ok(Upgraded::from_box_io(BoxIo::from(hyper.await?)))
        }))
    })
}
