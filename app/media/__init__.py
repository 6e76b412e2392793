"""Pictures: from what the caller wrote to what a backend takes."""
