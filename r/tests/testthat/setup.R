# Before Python starts: no network, and nothing that this machine has downloaded before.
cache <- tempfile("cache")
Sys.setenv(HF_HUB_OFFLINE = "1", HF_HOME = cache, CONVNEXT_CACHE = cache)
