//! flowstone-log
