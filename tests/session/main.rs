//! Sessions: their task, their IO, and their end.

#[path = "../support/mod.rs"]
mod support;

mod authority;
mod end;
mod handlers;
mod io;
mod life;
mod other_servers;
mod starttls;
mod testing;
