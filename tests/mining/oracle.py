"""The paper's mining, as slow and as plain as possible: no block, no table, no vector operation that hides a decision.

Written from the paper (table 1, sections 3.1 and 3.2) and the project's design; it shares no code with the miner but the
definition of the random numbers, which are hashes of (seed, query id, document id).
"""

import numpy as np

from nv_retriever.mining.randomness import gumbel, id_keys, mix, uniform

f32 = np.float32


def limit_of(rule, anchor, anchors):
    name, _, value = rule.partition("(")
    value = float(value.rstrip(")") or "nan")
    if name == "topk-abs":
        return f32(value)
    if name == "topk-marginpos":
        return f32(float(anchor) - value)
    if name == "topk-percpos":
        return f32(float(anchor) - (1 - value) * abs(float(anchor)))
    if name == "topk-percentile":
        finite = sorted(float(a) for a in anchors if not np.isnan(a))
        place = max(int(np.ceil(value * len(finite))) - 1, 0)  # a share `value` lies at or below it
        return min(f32(anchor), f32(finite[place]))
    return f32(np.inf)


def anchor_of(sample, samples, own, how):
    scores = [float(own(s)) for s in samples if s[0] == sample[0] and not np.isnan(own(s))]
    if how == "each" or not scores:
        return own(sample)
    return f32({"min": min(scores), "max": max(scores), "mean": sum(scores) / len(scores)}[how])


def noise(seed, query_id, document_id):
    return float(gumbel(mix(seed, id_keys([query_id]), id_keys([document_id])))[0])


def preferred(survivors, score, selection, seed, query_id, document_ids):
    """The survivors in the order in which they are taken."""
    kind, _, rest = selection.partition("(")
    if kind == "top":
        return survivors[: int(rest.rstrip(")"))]
    window = survivors[: int(rest.rstrip(")").split("of=")[1])]
    draw = sorted(window, key=lambda d: -(float(score[d]) + noise(seed, query_id, document_ids[d])))
    return window[:1] + [d for d in draw if d != window[0]] if kind == "top1+sample" and window else draw


def mine(matrices, allowed, vetoed, samples, rule, selection, anchor, ensemble, floor, shortfall, seed, ids):
    """Return for each sample (found, [(document, teacher, rank, why)]).

    matrices: one (n_q, n_d) float32 array of scores per teacher; allowed: (n_q, n_d) bool, False for what is excluded;
    vetoed: (n_q, n_d) bool, True for what has a rank but is no negative; ids: of queries and documents.
    """
    query_ids, document_ids = ids
    wanted = int(selection.partition("(")[2].rstrip(")").split(",")[0])
    first_rank = int(rule.partition("(")[2].rstrip(")")) + 1 if rule.startswith("topk-shift") else 1
    n_d = allowed.shape[1]
    results = []
    for sample in samples:
        query, positive = sample
        offers = {}
        for t, matrix in enumerate(matrices):
            if np.isnan(matrix[query, positive]):
                continue
            own = lambda s, m=matrix: m[s]  # noqa: E731
            anchors = [anchor_of(s, samples, own, anchor) for s in samples]
            a = anchor_of(sample, samples, own, anchor)
            limit, score = limit_of(rule, a, anchors), matrix[query]
            ranking = sorted(
                (d for d in range(n_d) if allowed[query, d] and not np.isnan(score[d])), key=lambda d: (-score[d], d)
            )
            rank = {d: r for r, d in enumerate(ranking, 1)}
            kept = [d for d in ranking if score[d] < limit and rank[d] >= first_rank and score[d] >= floor]
            survivors = [d for d in kept if not vetoed[query, d]]
            order = preferred(survivors, score, selection, seed, query_ids[query], document_ids)
            offers[t] = order, rank, score, limit, a, ranking
        if not offers:
            results.append((0, []))
            continue
        chosen = []
        if ensemble.startswith("intra"):
            queues = {t: list(offer[0]) for t, offer in offers.items()}
            while len(chosen) < wanted and any(queues.values()):
                for t in sorted(queues):
                    if ensemble.endswith("dedup"):
                        queues[t] = [d for d in queues[t] if d not in [c[0] for c in chosen]]
                    if queues[t] and len(chosen) < wanted:
                        d = queues[t].pop(0)
                        chosen.append((d, t, offers[t][1][d], "kept"))
            home = min(offers)
        else:
            home = min(offers)
            if ensemble == "cross-sample":
                keys = id_keys([query_ids[query]]), id_keys([document_ids[positive]]), np.array([0x7EAC4E5], np.uint64)
                home = sorted(offers)[int(float(uniform(mix(seed, *keys))[0]) * len(offers))]
            chosen = [(d, home, offers[home][1][d], "kept") for d in offers[home][0][:wanted]]
        found = len(chosen)
        _, rank, score, limit, a, ranking = offers[home]
        free = [d for d in ranking if score[d] < a and not vetoed[query, d] and d not in [c[0] for c in chosen]]
        if found < wanted and shortfall == "drop":
            chosen = []
        if found < wanted and shortfall == "relax":
            easy = [d for d in free if score[d] < min(limit, a, floor) and rank[d] >= first_rank]
            near = sorted((d for d in free if score[d] >= limit or rank[d] < first_rank), key=lambda d: (score[d], d))
            fill = easy + near
            chosen += [(d, home, rank[d], "relaxed") for d in fill[: wanted - found]]
        if found < wanted and shortfall == "random":
            keys = mix(seed, id_keys([query_ids[query]]), id_keys(document_ids)) if n_d else []
            fill = sorted(free, key=lambda d: keys[d])
            chosen += [(d, home, 0, "random") for d in fill[: wanted - found]]
        results.append((found, chosen))
    return results
