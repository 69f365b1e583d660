//! # Scaling out
