"""What the scripts do once their options are read: one module for each script whose work joins several rooms."""
