// Written by web-tools/records.py from microtome/features/records.py; do not edit.

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
  readonly max: number;
  readonly peak: number;
  readonly above_store: boolean;
}

interface Card {
  readonly index: string;
  readonly feature: number;
  readonly site: string;
  readonly number: number;
  readonly n_features: number;
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
}

interface ModelState {
  readonly ref: string;
  readonly state: string;
  readonly step: string;
  readonly done: number;
  readonly total: number;
  readonly unit: string;
}
