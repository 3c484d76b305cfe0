"""The messages of bounce(8): templates, the text of notifications, who gets one."""
