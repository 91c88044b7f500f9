//! What was promised, tried over real HTTP against a whole instance in this process.

mod approvals;
mod authorization;
mod canary;
mod database;
mod decided;
mod feed;
mod limits;
mod openapi;
mod payments;
mod prepaid;
mod refusals;
mod report;
mod revoked;
mod scene;
mod sealed;
mod stolen;
mod time;
mod tokens;
mod uses;
