-- reap: lapsed leases and due retries join the queue, so that a pool whose runners are all gone is woken again.
-- KEYS[1] queue   KEYS[2] leases   KEYS[3] delayed   KEYS[4] holders   (as in claim)
-- -> how many came back
return due_back(KEYS[1], KEYS[2], KEYS[3], KEYS[4], now_ms())
