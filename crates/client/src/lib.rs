//! flowstone-client
