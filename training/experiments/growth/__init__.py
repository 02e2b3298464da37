"""What growing a ranker saves, against one from scratch, the small one, and the un-grown one."""
