// The page: each part starts by itself, and one that fails leaves the others alone.

import { startAsk } from "./ask.js";
import { startLive } from "./live.js";
import { startLookUp } from "./lookup.js";

for (const start of [startLive, startLookUp, startAsk]) start();
