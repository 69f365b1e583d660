//! # Threats
//!
//! # Cross-site WebSocket hijacking
