//! flowstone-format
