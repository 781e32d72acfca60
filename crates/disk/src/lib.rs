//! flowstone-disk
