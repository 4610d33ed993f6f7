// Rates of a 2 x 2 table with 95 % intervals over patients, by linearisation.
//
// Cells are [tp, fp, fn, tn]. A rate is a function of the four totals. Its variance over patients is that of the sum,
// over patients, of the function's slope times the patient's own cells (Taylor linearisation for clusters), and the
// interval is symmetric on the log-odds scale, or on the scale itself for kappa.
"use strict";

{
  const FEW_PATIENTS = 10; // a group of fewer gets no interval, as in the studies
  const Z = 1.959963984540054;
  const POSITIVE = [0, 2], NEGATIVE = [1, 3], CALLED = [0, 1], NOT_CALLED = [2, 3];

  const sensitivity = ([tp, , fn]) => tp / (tp + fn);
  const specificity = ([, fp, , tn]) => tn / (tn + fp);
  const kappa = ([tp, fp, fn, tn]) => {
    const total = tp + fp + fn + tn;
    const chance = ((tp + fn) * (tp + fp) + (tn + fp) * (tn + fn)) / total ** 2;
    return ((tp + tn) / total - chance) / (1 - chance);
  };

  // Each measure: its function, on which groups of images it rests, and whether it lies between 0 and 1.
  const measures = {
    sensitivity: { of: sensitivity, rests: [POSITIVE], unit: true },
    specificity: { of: specificity, rests: [NEGATIVE], unit: true },
    ppv: { of: ([tp, fp]) => tp / (tp + fp), rests: [CALLED], unit: true },
    npv: { of: ([, , fn, tn]) => tn / (tn + fn), rests: [NOT_CALLED], unit: true },
    kappa: { of: kappa, rests: [POSITIVE, NEGATIVE, CALLED, NOT_CALLED], unit: false },
  };

  // Return the measures that depend on how common the finding is, at a stated prevalence.
  const at = prevalence => {
    const both = { rests: [POSITIVE, NEGATIVE], unit: true };
    const bayes = (hits, alarms) => hits / (hits + alarms);
    return {
      ppv: { ...both, of: cells => bayes(sensitivity(cells) * prevalence,
        (1 - specificity(cells)) * (1 - prevalence)) },
      npv: { ...both, of: cells => bayes(specificity(cells) * (1 - prevalence),
        (1 - sensitivity(cells)) * prevalence) },
      workSaved: { ...both, of: cells => prevalence * (1 - sensitivity(cells))
        + (1 - prevalence) * specificity(cells) },
    };
  };

  // Return {total, patients} of images where both are 0 or 1: the four cells of all images, and of each patient.
  const cells = (label, called, patient) => {
    const total = [0, 0, 0, 0], patients = new Map();
    for (let i = 0; i < label.length; i++) {
      if ((label[i] !== 0 && label[i] !== 1) || (called[i] !== 0 && called[i] !== 1)) continue;
      const k = (label[i] ? 0 : 1) + (called[i] ? 0 : 2);
      if (!patients.has(patient[i])) patients.set(patient[i], [0, 0, 0, 0]);
      patients.get(patient[i])[k] += 1;
      total[k] += 1;
    }
    return { total, patients };
  };

  const slope = (measure, total) => total.map((count, k) => {
    const step = Math.max(count, 1) * 1e-4;
    const shifted = by => measure.of(total.map((other, j) => (j === k ? other + by : other)));
    return (shifted(step) - shifted(-step)) / (2 * step);
  });

  // Return {estimate, low, high, reason} of a measure; ends are null where the reason says why.
  const estimate = (measure, { total, patients }) => {
    const value = measure.of(total);
    const none = reason => ({ estimate: value, low: null, high: null, reason });
    if (!Number.isFinite(value)) return none("undefined: a group of images is empty");
    const each = [...patients.values()];
    const fewest = Math.min(...measure.rests.map(group => each.filter(own => own[group[0]] + own[group[1]]).length));
    if (fewest < FEW_PATIENTS) return none(`no interval: it rests on ${explorer.plural(fewest, "patient")}`);
    const gradient = slope(measure, total);
    const squares = each.reduce((sum, own) => sum + own.reduce((s, n, k) => s + n * gradient[k], 0) ** 2, 0);
    const error = Math.sqrt(squares * each.length / (each.length - 1));
    if (!(error > 0) || (measure.unit && (value <= 0
      || value >= 1))) return none("no interval: every image counts alike");
    if (!measure.unit) return { estimate: value, low: Math.max(value - Z * error, -1), high: Math.min(value
      + Z * error, 1), reason: "" };
    const centre = Math.log(value / (1 - value)), reach = Z * error / (value * (1 - value));
    const back = x => 1 / (1 + Math.exp(-x));
    return { estimate: value, low: back(centre - reach), high: back(centre + reach), reason: "" };
  };

  // Return the area under the ROC curve, ties counted half, and its corners [1 - specificity, sensitivity].
  const roc = (label, score) => {
    const order = [...label.keys()].filter(i => label[i] === 0 || label[i] === 1).sort((a, b) => score[b] - score[a]);
    const positives = order.filter(i => label[i] === 1).length, negatives = order.length - positives;
    const corners = [[0, 0]];
    let hits = 0, alarms = 0, area = 0;
    for (let k = 0; k < order.length;) {
      const [hitsBefore, alarmsBefore] = [hits, alarms];
      const value = score[order[k]];
      for (; k < order.length && score[order[k]] === value; k++) label[order[k]] === 1 ? hits++ : alarms++;
      area += (alarms - alarmsBefore) * (hits + hitsBefore) / 2;
      corners.push([alarms / negatives, hits / positives]);
    }
    return { auc: area / (positives * negatives), corners };
  };

  // Return the highest threshold at which at least that share of the findings is at or above it.
  const thresholdAtSensitivity = (label, score, wanted) => {
    const positives = [...label.keys()].filter(i => label[i] === 1).map(i => score[i]).sort((a, b) => a - b);
    return positives.length ? positives[Math.floor((1 - wanted) * positives.length + 1e-9)] : NaN;
  };

  explorer.rates = { measures, at, cells, estimate, roc, thresholdAtSensitivity };
}
