//! # Coming from elsewhere
