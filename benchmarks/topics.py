"""Speed and memory of the text part of mining: words, topics, every report's topic, word vectors, on one core.

    python benchmarks/topics.py [--reports N ...] [--topics K] [--sweeps S]

The reports are generated: a stream of sentences of Open-i's 3,955 in random order. Each number of them (50,000,
100,000 and 200,000 if not given) is a process of its own. Times are CPU time, which other work on the machine hardly
makes longer. Before that, tomotopy and scikit-learn are compared in one process on 5,000 of these reports, each with
the default iterations of `models.fit_topics`, by time and by perplexity of 1,000 others.
"""

import argparse
import multiprocessing
import random
import re
import resource
import time

from cxrlib.releases import openi_reports
from cxrlib.topics import models, vectors, words

COMPARED_N, HELD_N = 5_000, 1_000


def sentences():
    """Return all sentences of Open-i's findings and impressions, and how many a report has on average."""
    texts = [" ".join(report.read_text.split()) for report in openi_reports.read_reports()]
    found = [s for text in texts for s in re.split(r"(?<=[.!?])\s+", text) if s]
    return found, round(len(found) / len(texts))


def generated(reports_n, seed, found, per_report):
    """Yield ids and texts of reports of other reports' sentences; nothing of them is kept."""
    rng = random.Random(seed)
    for k in range(reports_n):
        yield f"{seed}-{k}", " ".join(rng.choices(found, k=per_report))


def memory_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def mined(reports_n, topics_n, sweeps, stock):
    """Do all the text part of mining for so many reports, and print what each step took."""
    before, start = memory_mib(), time.process_time()

    def done(what):
        nonlocal start
        took, start = time.process_time() - start, time.process_time()
        speed, mib = reports_n / took, memory_mib() - before
        print(f"{reports_n:>9,}  {what:<26}{took:>7.1f} s{speed:>10,.0f} reports/s{mib:>8,.0f} MiB", flush=True)

    corpus = words.corpus(generated(reports_n, 1, *stock))
    done("words")
    model = models.fit_topics(corpus, topics_n, 1, iterations=sweeps)
    done(f"{sweeps} sweeps of {topics_n} topics")
    model.best_of(corpus)
    done("each report's topic")
    del corpus
    spoken = words.corpus(generated(reports_n, 1, *stock), vectors.VECTOR_RULES)
    done("words, for vectors")
    vectors.train_vectors(spoken, 1, epochs=1)
    done("vectors, one pass")


def compared(topics_n, stock):
    """Print what the two engines take, and how well they foretell other reports."""
    corpus = words.corpus(generated(COMPARED_N, 2, *stock))
    held = words.corpus(generated(HELD_N, 3, *stock), terms=corpus.terms)
    took = {}
    for engine in ("tomotopy", "sklearn"):
        start = time.process_time()
        model = models.fit_topics(corpus, topics_n, 1, engine)
        took[engine] = time.process_time() - start
        speed, iterations = len(corpus) / took[engine], model.settings["iterations"]
        print(f"{engine}, {iterations} iterations, {topics_n} topics, {COMPARED_N:,} reports: ", end="")
        print(f"{took[engine]:.1f} s, {speed:,.0f} reports/s, perplexity {model.perplexity(held):.0f}")
    print(f"ratio {took['sklearn'] / took['tomotopy']:.1f}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reports", type=int, nargs="+", default=[50_000, 100_000, 200_000])
    parser.add_argument("--topics", type=int, default=80)
    parser.add_argument("--sweeps", type=int, default=20)
    asked = parser.parse_args()
    stock = sentences()
    compared(asked.topics, stock)
    fork = multiprocessing.get_context("fork")
    print("  reports  step                      CPU time                peak memory so far, beyond the start")
    for reports_n in asked.reports:
        process = fork.Process(target=mined, args=(reports_n, asked.topics, asked.sweeps, stock))
        process.start()
        process.join()


if __name__ == "__main__":
    main()
