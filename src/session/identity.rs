//! The identity of a session: its user, room or tenant.

use std::{
    any::Any,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

/// The owner of a session in the application: a user, a room, a tenant.
///
/// An `Identity` holds a value of any type that implements `Eq`, `Hash` and `Display`. Set the identity with
/// [`Accept::identity`](crate::Accept::identity), or insert it into the extensions of the request in a layer before the
/// handler, such as the authentication layer. The identity is then available from
/// [`Session::identity`](crate::Session::identity), [`SessionInfo::identity`](crate::SessionInfo::identity) and
/// [`Closed::identity`](crate::Closed::identity). The session's span has the `Display` form as its field `identity`, so
/// the form must not contain data that must not be logged.
///
/// Two identities are equal if both their types and their values are equal.
///
/// ```
/// use std::time::Duration;
/// use http::{HeaderMap, Request, StatusCode};
/// use tower_upgrade::{Identity, Sessions, UpgradeLayer};
///
/// /// The user of a request, set by an authentication layer.
/// fn authenticate<B>(mut request: Request<B>, user: String) -> Request<B> {
///     request.extensions_mut().insert(Identity::new(user));
///     request
/// }
///
/// /// At most 5 sessions for each user.
/// let sessions = Sessions::builder()
///     .max_per_key(5, |request| request.extensions.get::<Identity>().cloned())
///     .build();
/// let layer = UpgradeLayer::new().sessions(sessions.clone());
///
/// /// A logout ends the sessions of the user.
/// fn log_out(sessions: &Sessions, user: String) -> usize {
///     sessions.close_of(&Identity::new(user), Duration::from_secs(1))
/// }
/// # log_out(&sessions, "ann".into());
/// ```
#[derive(Clone)]
pub struct Identity {
    value: Arc<dyn Value>,
}

impl Identity {
    /// Wraps a value.
    pub fn new<T>(value: T) -> Self
    where
        T: Eq + Hash + fmt::Display + Send + Sync + 'static,
    {
        Self {
            value: Arc::new(value),
        }
    }

    /// Returns the value, if its type is `T`.
    #[must_use]
    pub fn get<T: 'static>(&self) -> Option<&T> {
        self.value.as_any().downcast_ref()
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.value.is(other.value.as_any())
    }
}

impl Eq for Identity {}

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.value.hash_into(state);
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl fmt::Debug for Identity {
    /// Writes the `Display` form, so that data left out of it is not logged either.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.value)
    }
}

/// A type-erased value.
trait Value: fmt::Display + Send + Sync {
    fn as_any(&self) -> &dyn Any;
    fn is(&self, other: &dyn Any) -> bool;
    fn hash_into(&self, hasher: &mut dyn Hasher);
}

impl<T> Value for T
where
    T: Eq + Hash + fmt::Display + Send + Sync + 'static,
{
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn is(&self, other: &dyn Any) -> bool {
        other.downcast_ref() == Some(self)
    }

    fn hash_into(&self, mut hasher: &mut dyn Hasher) {
        self.hash(&mut hasher);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn identities_are_equal_by_type_and_value() {
        let ann = Identity::new(String::from("ann"));
        assert_eq!(ann, Identity::new(String::from("ann")));
        assert_ne!(ann, Identity::new(String::from("bob")));
        // A different type.
        assert_ne!(ann, Identity::new("ann"));
        assert_eq!(ann.get::<String>().map(String::as_str), Some("ann"));
        assert_eq!(ann.get::<&str>(), None);
        assert_eq!(
            (ann.to_string(), format!("{ann:?}")),
            ("ann".into(), "Identity(ann)".into())
        );
        let set = HashSet::from([ann.clone(), Identity::new(7_u64), ann]);
        assert_eq!(set.len(), 2);
        assert!(set.contains(&Identity::new(7_u64)));
    }
}
