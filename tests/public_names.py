"""The public names of every package: what changes here changes what users may import."""

PUBLIC = {
    "alignment": "Alignment ENDS_OF_CHATS ENDS_OF_TEXTS NearestTokens VocabOverlap align "
    "align_batch nearest_tokens overlapping_tokens tokens_that_fit",
    "byteview": "ByteModel ByteScore ByteStream EXACT NoRoomError Pruning STOP",
    "chats": "ChatDescription ChatPrompts Conversation Example ExampleEncoder PieceMatch "
    "PromptCompletion compare_templates describe_template parse_example "
    "resolve_chat_template shared_examples",
    "corpora": "Corpus Examples as_examples as_row distinct_names load_corpora load_corpus "
    "load_examples load_mixture plain_name read_rows",
    "evaluation": "BitsPerByte EvaluationError EvaluationOptions ExamResult Fidelity Item Scorer "
    "bits_per_byte evaluate fidelity read_exam render_table take_exam",
    "inference": "ByteEnsemble ByteMember ByteView ContinuationScore Decoder Ensemble "
    "LanguageModel Member MinedEnsemble OneByOne Prompt RULES Sampling Scorer Steps "
    "TokenEnsemble TokenModel is_ensemble_file load_language_model",
    "models": "ExtraInputs SavedDtypes Scores SubwordLookup check_is_bytes check_model_exists "
    "check_vocabulary_fits default_device describe_architecture evaluating expand_inputs "
    "extra_inputs find_device hidden_states load_config load_model load_to_change max_positions "
    "needs_code new_model output_head plain_model raise_max_positions subword_lookup token_scores "
    "unwrap_model vocabulary_masks why_positions_are_fixed",
    "objectives": "ALM AlignedBatch BoundObjective CrossEntropy DSKD FitsAnyPair FixedWeights GOLD "
    "GradientMagnitude HiddenStates LossSum Metric MinED ModelView Needs Objective Strict "
    "ULD count_true label_metrics require_boundary require_hidden",
    "ops": "OutputHead blockwise_sum linear_logprobs",
    "reports": "Advice ChunkCell ChunkView ExampleCounts ExampleNumbers Flag ModelNumbers "
    "PairCounts PairReport RunCurves RunNumbers VocabularyNumbers chunk_view "
    "compare_tokenizers compare_vocabularies examination_page has_errors "
    "outcome_table pair_page pair_table print_chunks print_examination recommend "
    "red_flags run_curves run_page shared_teacher_ids write_page",
    "teachers": "CachedTeacher LocalTeacher SharedMass SharedTeacher Teacher "
    "TeacherName TeacherRequest cached_teacher check_needs open_teacher shared_mass short_name",
    "tokenizers": "BYTES ByteVocab Spans TEMPLATE TextEncoder byte_tokenizer is_byte_tokenizer "
    "load_target_tokenizer load_tokenizer shared_texts",
    "training": "AlignedCollator CrossTokenizerTrainer DistillationCollator DistillationLoss "
    "DistillationTrainer DivergedError Lora NonFiniteLossError OriginalEmbeddings Sides StepCost "
    "Student add_lora alm_loss batch_of chat_rows chunk_gaps chunk_views "
    "compute_dtype dtype_name step_cost telling_rows text_windows window_length",
    "transplants": "METHODS MethodInputs MethodNeeds MethodRows Resources RowSource SourceMatrices "
    "SourceRows TransplantMethod TransplantPlan TransplantReport check_resources find_method "
    "make_method plan_rows source_pieces split_options transplant untie_embeddings",
}
