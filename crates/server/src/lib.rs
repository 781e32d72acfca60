//! flowstone-server
