"""What was tried so that the operator bears many runs, and what it brought."""

from recording import Lever

LEVERS: tuple[Lever, ...] = (
    Lever(
        "All that is kept below, together",
        kept=True,
        numbers=(
            "100 live runs, each second one comes and one ends, four phases each, two cores "
            "that others used as well (load 4.5, both): run applied → job created p50 0.9 s in "
            "place of 5.0, p99 2.8 s in place of 8.0; pod ended → next phase's job p50 0.6 s in "
            "place of 2.2, p99 1.9 s in place of 7.0; a burst's memory 95 MB in place of 119"
        ),
    ),
    Lever(
        "Keep what has ended packed: runs, jobs and pods as compressed JSON in the caches",
        kept=True,
        numbers=(
            "a finished run takes 2.2 kB, not 34 kB, its job 0.8 kB, its pod 0.7 kB; packing "
            "costs 0.1 ms, once"
        ),
    ),
    Lever(
        "List in pages of 100, Kopf's own lists too, and let Kopf drop each object's last event "
        "after 0.5 s in place of 5 s",
        kept=True,
        numbers=(
            "as dictionaries the 16 kB of a run take 88 kB: 10,000 at once would be 0.9 GB, more "
            "than the chart's memory limit, a page is 9 MB"
        ),
    ),
    Lever(
        "Make the status' phases an atomic list, so that nobody keeps book of who set each field",
        kept=True,
        numbers=(
            "a finished run has 12.1 kB in place of 16.4 kB; a status write costs the API server "
            "18.5 ms of CPU in place of 24 (medians of 6 times 60 writes each)"
        ),
    ),
    Lever(
        "Send status writes without the spec, which the API server ignores there",
        kept=True,
        numbers="0 to 15 % of the API server's CPU per write, 2 kB less to send",
    ),
    Lever(
        "Drop the ten CEL rules by which the spec cannot change",
        kept=False,
        numbers=(
            "they are judged again with each status write: about 4 of its 18.5 ms; without them "
            "kubectl would take changes that do nothing"
        ),
    ),
    Lever(
        "Make the metrics of a phase an atomic map, the phases still keyed",
        kept=False,
        numbers="14.3 kB in place of 16.4 kB, no difference in CPU that could be told from noise",
    ),
    Lever(
        "Write Events after the jobs that a pass creates, not before",
        kept=True,
        numbers="two requests fewer between a run's arrival and its job",
    ),
    Lever(
        "16 passes at a time in place of 8",
        kept=True,
        numbers=(
            "with 100 and 300 live runs eight passes took 0.15 to 0.4 s each, nearly all of it "
            "waiting for the API server, and runs waited seconds for one of the eight"
        ),
    ),
    Lever(
        "32 passes at a time",
        kept=False,
        numbers=(
            "on a machine with too little CPU for the API server the operator's own requests "
            "delayed the renewal of its Lease until it lost it"
        ),
    ),
    Lever(
        "Look at the runs that still work first when starting, and do not look again at what "
        "Kopf's first list repeats",
        kept=True,
        numbers="one pass per finished run in place of two; live runs do not wait for any of them",
    ),
    Lever(
        "Build the page of the operator's metrics beside the event loop, from what is kept of "
        "each run",
        kept=True,
        numbers="0.27 s at 10,000 finished runs, in which everything stood still before",
    ),
    Lever(
        "Ask for no page of a trainer's history once its newest step has been read",
        kept=True,
        numbers=(
            "two requests per reading in place of three; one where the gauge of steps has not gone "
            "on since the last reading"
        ),
    ),
    Lever(
        "Give Kopf a store of earlier states that holds nothing: it copied each event's object "
        "four times for handlers of changes, of which there are none",
        kept=True,
        numbers=(
            "a third of the operator's CPU time with 150 live runs (cProfile: 19 of 61 s); with "
            "100 live runs it took 9.9 s of CPU in 50 s, afterwards 12.4 s in 60 s with 200"
        ),
    ),
    Lever(
        "Let the first two readings of a run lie apart by its own share of the interval",
        kept=True,
        numbers=(
            "100 runs that came at once were read, and written about, within a second of each "
            "other for ever; not measured alone: in the run before it, on a machine half idle, "
            "one new run of 15 waited 2.1 s for its job, most 0.15 s"
        ),
    ),
    Lever(
        "List metadata alone once everything is known, and then what has changed by name",
        kept=True,
        numbers=(
            "4.5 kB in place of 12.5 kB for a run (most of it says who set which field): 45 MB "
            "in place of 125 MB for 10,000, in the second list after a start and every 300 s"
        ),
    ),
    Lever(
        "Let the event loop have its turn after each pass",
        kept=True,
        numbers=(
            "passes over finished runs wait for nothing, so that 10,000 in a row leave no turn "
            "for probes, watches and the Lease's renewal; found by reading, not measured alone"
        ),
    ),
    Lever(
        "Leave progress for the next reading while four other statuses are on their way, for two "
        "minutes at most",
        kept=True,
        numbers=(
            "with 1,000 live runs, where the API server got one of two cores and took 22 status "
            "writes a second, 33 were wanted for progress: all 16 passes at a time waited for "
            "them, 0.7 s each, and a new run 45 s for its turn. With 300 live runs, "
            "after this, the spread of readings and the turns of the loop: run applied → job p99 "
            "0.79 s in place of 1.65, pod ended → next job 0.73 in place of 1.53; part of it may "
            "be the machine's, of which others used 0.06 cores in place of 0.42, and 1,000 in "
            "place of 10,000 runs had finished"
        ),
    ),
    Lever(
        "Leave progress while eight other statuses are on their way, however long it has waited",
        kept=True,
        numbers=(
            "1,000 live runs at steady work: pod ended → next job p99 1.33 s in place of 3.46, run "
            "applied → job at most 1.36 s of 48 in place of 4.88. Part of it is that the work is "
            "looked at 150 s after the burst before it in place of 15, and that others used 0.3 "
            "CPU s in place of 7.1. Of what is left the audit log shows 0.1 to 0.4 s in requests; "
            "the rest, up to 0.8 s, runs wait in the operator's own process"
        ),
    ),
    Lever(
        "Look through everything for garbage once an hour, and not through what was there at the "
        "start",
        kept=True,
        numbers=(
            "with 1,000 live runs Python's full collection looked through 200,000 objects every 5 "
            "to 30 s, and everything waited for 0.2 to 0.9 s. With it and more frequent rounds of "
            "readings: pod ended → next job p99 0.88 s in place of 1.19, run applied → job at most "
            "1.38 s of 48 in place of 1.90. The two longest of 139 waits, 0.9 s each, came at one "
            "moment of a run in which it was told to after each list: probably its doing"
        ),
    ),
    Lever(
        "Look four times a second in place of twice who is to be read, by what was made of each "
        "run's status before",
        kept=True,
        numbers=(
            "with 1,000 live runs readings begin in bunches of 17 in place of 33; looking took 4 % "
            "of the operator's CPU time with 500 live runs, twice a second, so that ten times a "
            "second was too often"
        ),
    ),
    Lever(
        "Eight statuses a second, and progress that waits five minutes at most: an attempt's first "
        "half a minute",
        kept=True,
        numbers=(
            "with 1,000 live runs 18 a second were written, 13.5 when held to 12 and two minutes; "
            "held to 8 and five it is 9.4, and the API server takes 0.69 of a core in place of "
            "0.78. Run applied → job p50 0.27 s in place of 0.45, pod ended → next job p50 0.16 in "
            "place of 0.28, p99 0.97 in place of 1.10"
        ),
    ),
    Lever(
        "Keep what was read of a run and judged of its place for as long as neither has changed",
        kept=True,
        numbers=(
            "both took a fifth of the operator's CPU time with 500 live runs (samples of its "
            "stack: 13 and 7 %); what is left of that was not measured. 1,000 live runs and "
            "nothing else take 266 MB in place of 200, rarer collections included"
        ),
    ),
    Lever(
        "Read the pools' files only once something about them has changed; look for the pod only "
        "of a run whose turn it is to be read",
        kept=True,
        numbers="7 % of the operator's CPU time with 150 live runs (cProfile: 4.2 of 61 s)",
    ),
)
