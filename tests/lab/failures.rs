//! Failures: hosts, daemons, stores and networks that go away.
