// Written by web-tools/records.py from the records of microtome/features; do not edit.

interface Histogram {
  readonly edges: readonly (number)[];
  readonly counts: readonly (number)[];
  readonly unit: string;
  readonly log: boolean;
}

interface RuleLabel {
  readonly text: string;
  readonly kind: string;
  readonly f1: number;
  readonly precision: number;
  readonly recall: number;
  readonly f1_test: number | null;
  readonly f1_null: number;
  readonly threshold: number;
  readonly weak: boolean;
}

interface Label {
  readonly feature: number;
  readonly text: string;
  readonly origin: string;
  readonly f1: number | null;
}

interface ExampleWindow {
  readonly doc: number;
  readonly title: string;
  readonly corpus_label: string;
  readonly split: string;
  readonly role: string;
  readonly start: number;
  readonly offset: number;
  readonly peak: number;
  readonly activation: number;
  readonly pieces: readonly (string)[];
  readonly activations: readonly (number)[];
  readonly duplicates: number;
}

interface Stratum {
  readonly index: number;
  readonly low: number;
  readonly high: number;
  readonly count: number;
  readonly examples: readonly (ExampleWindow)[];
}

interface Breakdown {
  readonly name: string;
  readonly count: number;
  readonly tokens: number;
  readonly density: number;
  readonly lift: number;
}

interface TokenStat {
  readonly token: number;
  readonly piece: string;
  readonly count: number;
  readonly share: number;
  readonly mean: number;
  readonly rate: number;
}

interface TokenProfile {
  readonly entropy: number;
  readonly distinct: number;
  readonly tokens: readonly (TokenStat)[];
}

interface LogitEntry {
  readonly token: number;
  readonly piece: string;
  readonly logit: number;
}

interface Logits {
  readonly top: readonly (LogitEntry)[];
  readonly bottom: readonly (LogitEntry)[];
}

interface Neighbour {
  readonly feature: number;
  readonly cosine: number;
  readonly label: string;
  readonly density: number;
}

interface Statistics {
  readonly count: number;
  readonly density: number;
  readonly documents: number;
  readonly document_share: number;
  readonly max: number;
  readonly mean: number;
  readonly second_moment: number;
  readonly decoder_norm: number;
  readonly encoder_norm: number;
}

interface Note {
  readonly text: string;
  readonly created: string;
}

interface TableRow {
  readonly feature: number;
  readonly label: string;
  readonly origin: string;
  readonly rule_kind: string;
  readonly f1: number;
  readonly density: number;
  readonly documents: number;
  readonly max: number;
  readonly mean: number;
  readonly entropy: number;
  readonly token: string;
  readonly top_logit: string;
  readonly cosine: number;
  readonly corpus_label: string;
  readonly lift: number;
  readonly site: string;
}

interface Table {
  readonly rows: readonly (TableRow)[];
  readonly total: number;
  readonly n_features: number;
  readonly offset: number;
  readonly limit: number;
  readonly sort: string;
  readonly descending: boolean;
  readonly filter: string;
  readonly search: string;
}

interface Overview {
  readonly name: string;
  readonly id: string;
  readonly sources: Record<string, string>;
  readonly counts: Record<string, number>;
  readonly l0: number;
  readonly density: Histogram;
  readonly f1: Histogram;
  readonly rules: Record<string, number>;
  readonly splits: Record<string, number>;
  readonly corpus_labels: Record<string, number>;
  readonly roles: Record<string, number>;
  readonly quality: Record<string, any>;
  readonly examples: readonly (TableRow)[];
}

interface TurnView {
  readonly role: string;
  readonly start: number;
  readonly end: number;
}

interface DocumentFeature {
  readonly feature: number;
  readonly label: string;
  readonly score: number;
  readonly count: number;
  readonly max: number;
  readonly share_of_max: number;
  readonly density: number;
  readonly offsets: readonly (number)[];
  readonly activations: readonly (number)[];
}

interface DocumentView {
  readonly doc: number;
  readonly title: string;
  readonly corpus_label: string;
  readonly source: string;
  readonly split: string;
  readonly n_tokens: number;
  readonly offset: number;
  readonly pieces: readonly (string)[];
  readonly kept: readonly (boolean)[];
  readonly strongest: readonly (number)[];
  readonly turns: readonly (TurnView)[];
  readonly rank: string;
  readonly n_active: number;
  readonly features: readonly (DocumentFeature)[];
}

interface TokenFeature {
  readonly feature: number;
  readonly label: string;
  readonly activation: number;
  readonly share_of_max: number;
  readonly percentile: number;
  readonly density: number;
}

interface TokenView {
  readonly doc: number;
  readonly offset: number;
  readonly position: number;
  readonly token: number;
  readonly piece: string;
  readonly kept: boolean;
  readonly role: string;
  readonly features: readonly (TokenFeature)[];
}

interface DocumentRow {
  readonly doc: number;
  readonly title: string;
  readonly corpus_label: string;
  readonly split: string;
  readonly n_tokens: number;
}

interface DocumentList {
  readonly rows: readonly (DocumentRow)[];
  readonly total: number;
  readonly n_documents: number;
  readonly offset: number;
  readonly limit: number;
  readonly search: string;
}

interface SearchHit {
  readonly feature: number;
  readonly label: string;
  readonly score: number;
  readonly max: number;
  readonly peak: number;
  readonly share_of_max: number;
  readonly percentile: number;
  readonly density: number;
  readonly activations: readonly (number)[];
}

interface Search {
  readonly text: string;
  readonly tokens: readonly (number)[];
  readonly pieces: readonly (string)[];
  readonly rank: string;
  readonly n_active: number;
  readonly hits: readonly (SearchHit)[];
}

interface TextTest {
  readonly feature: number;
  readonly label: string;
  readonly text: string;
  readonly tokens: readonly (number)[];
  readonly pieces: readonly (string)[];
  readonly kept: readonly (boolean)[];
  readonly activations: readonly (number)[];
  readonly shares_of_max: readonly (number)[];
  readonly percentiles: readonly (number)[];
  readonly ranks: readonly (number)[];
  readonly max: number;
  readonly peak: number;
  readonly above_store: boolean;
}

interface TextTests {
  readonly feature: number;
  readonly label: string;
  readonly store_max: number;
  readonly store_count: number;
  readonly above_store: number;
  readonly tests: readonly (TextTest)[];
}

interface PromptHit {
  readonly feature: number;
  readonly label: string;
  readonly score: number;
  readonly worst: number;
  readonly against: number;
  readonly positive: readonly (number)[];
  readonly negative: readonly (number)[];
  readonly peaks: readonly (string)[];
  readonly density: number;
}

interface PromptSearch {
  readonly positive: readonly (string)[];
  readonly negative: readonly (string)[];
  readonly rank: string;
  readonly misses: number;
  readonly allow: number;
  readonly n_active: number;
  readonly n_common: number;
  readonly n_left: number;
  readonly hits: readonly (PromptHit)[];
}

interface TokenHit {
  readonly feature: number;
  readonly label: string;
  readonly f1: number;
  readonly rate: number;
  readonly share: number;
  readonly count: number;
  readonly mean: number;
  readonly share_of_max: number;
  readonly density: number;
}

interface TokenSearch {
  readonly text: string;
  readonly tokens: readonly (number)[];
  readonly pieces: readonly (string)[];
  readonly occurrences: number;
  readonly n_active: number;
  readonly hits: readonly (TokenHit)[];
}

interface Separator {
  readonly feature: number;
  readonly label: string;
  readonly auc: number;
  readonly low: number;
  readonly high: number;
  readonly p: number;
  readonly positive: number;
  readonly negative: number;
  readonly density: number;
}

interface Separation {
  readonly n_positive: number;
  readonly n_negative: number;
  readonly pool: string;
  readonly n_tested: number;
  readonly shuffles: number;
  readonly null_95: number;
  readonly n_significant: number;
  readonly seed: number;
  readonly hits: readonly (Separator)[];
}

interface Link {
  readonly feature: number;
  readonly site: string;
  readonly number: number;
  readonly label: string;
  readonly twera: number;
  readonly era: number;
  readonly weight: number;
  readonly count: number;
  readonly density: number;
}

interface Suppressed {
  readonly feature: number;
  readonly site: string;
  readonly number: number;
  readonly label: string;
  readonly released: number;
  readonly count: number;
  readonly weight: number;
  readonly density: number;
}

interface Links {
  readonly index: string;
  readonly name: string;
  readonly feature: number | null;
  readonly label: string;
  readonly way: string;
  readonly rank: string;
  readonly scale: string;
  readonly n_tokens: number;
  readonly n_reached: number;
  readonly promotes: readonly (Link)[];
  readonly suppresses: readonly (Link)[];
  readonly over: string;
  readonly would_suppress: readonly (Suppressed)[];
  readonly sample: number;
}

interface Coactive {
  readonly feature: number;
  readonly site: string;
  readonly number: number;
  readonly label: string;
  readonly count: number;
  readonly pmi: number;
  readonly jaccard: number;
  readonly share: number;
  readonly density: number;
}

interface Alike {
  readonly feature: number;
  readonly site: string;
  readonly number: number;
  readonly label: string;
  readonly encoder: number;
  readonly decoder: number;
  readonly together: number;
  readonly density: number;
}

interface Alikes {
  readonly index: string;
  readonly feature: number;
  readonly label: string;
  readonly encoder: readonly (Alike)[];
  readonly decoder: readonly (Alike)[];
}

interface Match {
  readonly feature: number;
  readonly site: string;
  readonly number: number;
  readonly label: string;
  readonly correlation: number | null;
  readonly cosine: number | null;
  readonly count: number;
  readonly density: number;
}

interface Matches {
  readonly index: string;
  readonly feature: number;
  readonly label: string;
  readonly other: string;
  readonly n_tokens: number;
  readonly null: number | null;
  readonly is_mutual: boolean | null;
  readonly by_correlation: readonly (Match)[];
  readonly by_cosine: readonly (Match)[];
}

interface Suspect {
  readonly kind: string;
  readonly feature: number;
  readonly site: string;
  readonly number: number;
  readonly label: string;
  readonly decoder: number;
  readonly encoder: number;
  readonly count: number;
  readonly together: number;
  readonly expected: number;
  readonly strength: number;
}

interface TokenShift {
  readonly token: number;
  readonly piece: string;
  readonly before: number;
  readonly change: number;
}

interface Change {
  readonly factor: number;
  readonly kl: number;
  readonly kl_low: number;
  readonly kl_high: number;
  readonly control: number;
  readonly control_low: number;
  readonly control_high: number;
  readonly larger: number;
  readonly loss: number | null;
  readonly promoted: readonly (TokenShift)[];
  readonly suppressed: readonly (TokenShift)[];
}

interface Effects {
  readonly index: string;
  readonly feature: number;
  readonly label: string;
  readonly model: string;
  readonly n: number;
  readonly activation: number;
  readonly size: number;
  readonly changes: readonly (Change)[];
}

interface Category {
  readonly name: string;
  readonly value: number;
  readonly bar: number;
  readonly holds: boolean;
}

interface Antipode {
  readonly feature: number;
  readonly label: string;
  readonly score: number;
  readonly encoder_cosine: number;
  readonly decoder_cosine: number;
  readonly cofire: number;
  readonly density: number;
}

interface DenseFeature {
  readonly feature: number;
  readonly site: string;
  readonly label: string;
  readonly density: number;
  readonly mean: number;
  readonly antipode: Antipode | null;
  readonly categories: readonly (Category)[];
  readonly explained: readonly (string)[];
}

interface Duplicate {
  readonly feature: number;
  readonly other: number;
  readonly label: string;
  readonly other_label: string;
  readonly decoder_cosine: number;
  readonly encoder_cosine: number;
  readonly jaccard: number;
}

interface OddFeature {
  readonly feature: number;
  readonly site: string;
  readonly label: string;
  readonly count: number;
  readonly documents: number;
  readonly token: string;
  readonly max: number;
}

interface Odd {
  readonly index: string;
  readonly n_features: number;
  readonly kept: number;
  readonly tokens_read: number;
  readonly pc1: string;
  readonly counts: Record<string, number>;
  readonly dense: readonly (DenseFeature)[];
  readonly cosines: readonly (readonly (number)[])[];
  readonly duplicates: readonly (Duplicate)[];
  readonly dead: readonly (number)[];
  readonly rare: readonly (OddFeature)[];
  readonly one_token: readonly (OddFeature)[];
}

interface Overlap {
  readonly name: string;
  readonly draws: number;
  readonly dimension: number;
  readonly cosines: readonly (number)[];
  readonly shared: number;
  readonly low: number;
  readonly high: number;
  readonly single: number;
}

interface Stability {
  readonly index: string;
  readonly other: string;
  readonly n_dense: number;
  readonly other_dense: number;
  readonly rank: number;
  readonly other_rank: number;
  readonly width: number;
  readonly dense: Overlap | null;
  readonly controls: readonly (Overlap)[];
}

interface Removed {
  readonly name: string;
  readonly draws: number;
  readonly kl: number;
  readonly kl_low: number;
  readonly kl_high: number;
  readonly loss: number;
  readonly loss_low: number;
  readonly loss_high: number;
  readonly variance: number;
  readonly norm: number;
}

interface Ablation {
  readonly index: string;
  readonly model: string;
  readonly sites: readonly (string)[];
  readonly n_dense: number;
  readonly dimensions: Record<string, number>;
  readonly widths: Record<string, number>;
  readonly contexts: number;
  readonly tokens: number;
  readonly loss: number;
  readonly removed: readonly (Removed)[];
}

interface FeatureList {
  readonly name: string;
  readonly features: readonly (number)[];
  readonly created: string;
}

interface KeptFeature {
  readonly feature: number;
  readonly site: string;
  readonly label: string;
  readonly origin: string;
  readonly verdict: string;
  readonly lists: readonly (string)[];
  readonly notes: readonly (Note)[];
  readonly density: number;
  readonly max: number;
}

interface Kept {
  readonly index: string;
  readonly id: string;
  readonly lists: readonly (FeatureList)[];
  readonly features: readonly (KeptFeature)[];
}

interface ClusterTerm {
  readonly kind: string;
  readonly text: string;
  readonly share: number;
  readonly overall: number;
  readonly score: number;
}

interface Cluster {
  readonly number: number;
  readonly label: string;
  readonly size: number;
  readonly x: number;
  readonly y: number;
  readonly terms: readonly (ClusterTerm)[];
  readonly null: number;
  readonly is_weak: boolean;
}

interface MapView {
  readonly index: string;
  readonly id: string;
  readonly layout: string;
  readonly n_features: number;
  readonly features: readonly (number)[];
  readonly x: readonly (number)[];
  readonly y: readonly (number)[];
  readonly cluster: readonly (number)[];
  readonly density: readonly (number)[];
  readonly kind: readonly (number)[];
  readonly kinds: readonly (string)[];
  readonly site: readonly (number)[];
  readonly sites: readonly (string)[];
  readonly clusters: readonly (Cluster)[];
  readonly facts: Record<string, number>;
}

interface Dreamed {
  readonly tokens: readonly (number)[];
  readonly pieces: readonly (string)[];
  readonly activation: number;
  readonly share: number;
  readonly cross_entropy: number;
  readonly corpus_share: number | null;
  readonly iteration: number;
}

interface Dream {
  readonly index: string;
  readonly name: string;
  readonly feature: number | null;
  readonly label: string;
  readonly store_max: number;
  readonly length: number;
  readonly iterations: number;
  readonly planned: number;
  readonly tokens_run: number;
  readonly prompts: number;
  readonly hypervolumes: readonly (number)[];
  readonly corpus_hypervolume: number;
  readonly front: readonly (Dreamed)[];
  readonly corpus_front: readonly (Dreamed)[];
  readonly corpus_texts: number;
  readonly seed: number;
}

interface KeptDream {
  readonly name: string;
  readonly is_finished: boolean;
  readonly dream: Dream;
}

interface Gram {
  readonly tokens: readonly (number)[];
  readonly pieces: readonly (string)[];
  readonly centre: number;
  readonly count: number;
  readonly share: number;
  readonly occurrences: number;
  readonly rate: number;
}

interface Stretch {
  readonly low: number;
  readonly high: number;
  readonly count: number;
  readonly tokens: number;
  readonly density: number;
  readonly lift: number;
}

interface Surroundings {
  readonly index: string;
  readonly feature: number;
  readonly label: string;
  readonly n: number;
  readonly before: readonly (Gram)[];
  readonly after: readonly (Gram)[];
  readonly positions: readonly (Stretch)[];
}

interface MeanLoss {
  readonly mean: number;
  readonly low: number;
  readonly high: number;
  readonly n: number;
}

interface SliceLoss {
  readonly low: number;
  readonly high: number;
  readonly here: MeanLoss | null;
  readonly after: MeanLoss | null;
}

interface FeatureLoss {
  readonly index: string;
  readonly feature: number;
  readonly here: MeanLoss | null;
  readonly after: MeanLoss | null;
  readonly store_here: number;
  readonly store_after: number;
  readonly slices: readonly (SliceLoss)[];
}

interface EditCount {
  readonly row: number;
  readonly edit: number;
  readonly kind: string;
  readonly fingerprint: string;
  readonly selected: number;
  readonly edited: number;
}

interface Side {
  readonly text: string;
  readonly ending: string;
  readonly tokens: readonly (string)[];
  readonly kl: readonly (number)[] | null;
  readonly logprobs: readonly (number)[];
}

interface SideBySide {
  readonly unedited: Side;
  readonly edited: Side;
  readonly cross_entropy: readonly (number)[];
  readonly kl_mean: number | null;
  readonly coherence: number;
  readonly coherence_unedited: number;
  readonly repetition: number | null;
  readonly repetition_unedited: number | null;
  readonly tokens_edited: number;
  readonly counts: readonly (EditCount)[];
}

interface Result {
  readonly name: string;
  readonly value: number;
  readonly low: number | null;
  readonly high: number | null;
  readonly n: number;
  readonly unit: string;
  readonly definition: string;
  readonly failures: number;
  readonly baselines: Record<string, number>;
  readonly origin: string;
}

interface Dose {
  readonly dose: number;
  readonly effect: Result;
  readonly controls: Record<string, Result>;
  readonly margins: Record<string, Result>;
  readonly coherence: Result;
  readonly edited_tokens: number;
  readonly text: string;
  readonly repetition: Result | null;
}

interface Calibration {
  readonly source: string;
  readonly n: number;
  readonly percentiles: readonly (number)[];
}

interface Measured {
  readonly results: readonly (Result)[];
  readonly together: readonly (Result)[];
  readonly notes: readonly (string)[];
  readonly raises: readonly (string)[];
  readonly lowers: readonly (string)[];
  readonly more: Record<string, any>;
}

interface Likeness {
  readonly name: string;
  readonly site: string;
  readonly cosine: number;
}

interface DirectionCard {
  readonly name: string;
  readonly title: string;
  readonly id: string;
  readonly fingerprint: string;
  readonly site: string;
  readonly width: number;
  readonly norm: number;
  readonly unit: string;
  readonly sign: string;
  readonly reference: string;
  readonly model: string | null;
  readonly provenance: Record<string, any>;
  readonly calibration: Calibration | null;
  readonly measured: Measured | null;
  readonly others: readonly (Likeness)[];
}

interface Card {
  readonly index: string;
  readonly feature: number;
  readonly site: string;
  readonly number: number;
  readonly n_features: number;
  readonly n_dictionaries: number;
  readonly label: Label;
  readonly rule: RuleLabel;
  readonly statistics: Statistics;
  readonly histogram: Histogram;
  readonly offsets: Histogram;
  readonly top: readonly (ExampleWindow)[];
  readonly strata: readonly (Stratum)[];
  readonly breakdowns: Record<string, readonly (Breakdown)[]>;
  readonly tokens: TokenProfile;
  readonly logits: Logits;
  readonly neighbours: readonly (Neighbour)[];
  readonly notes: readonly (Note)[];
  readonly verdict: string;
  readonly lists: readonly (string)[];
}

interface ModelState {
  readonly ref: string;
  readonly state: string;
  readonly step: string;
  readonly done: number;
  readonly total: number;
  readonly unit: string;
}
