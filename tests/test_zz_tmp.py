def test_a(workdir, ofa):
    import time

    t = time.time()
    r = ofa("search", "-w", workdir, "--latency", 1000)
    print(r, time.time() - t)
    t = time.time()
    r = ofa("export", "-w", workdir, "--latency", 1000, "--name", "x")
    print(r, time.time() - t)
    import os

    os.system("find . -type f | xargs ls -la")
    os.system("cat work/exports/x/manifest.json work/ledger.json")
