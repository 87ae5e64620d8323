"""Workers on this machine or on a cluster, by Ray: an executor of cells for whoever names its address."""
