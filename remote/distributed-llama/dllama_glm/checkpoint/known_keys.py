"""The keys of config.json that are understood, or known not to change what the weights compute."""

COMMON = frozenset({
    # read
    "model_type", "hidden_act", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "vocab_size", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings",
    "rope_theta", "rope_scaling", "rope_parameters", "partial_rotary_factor", "attention_bias", "quantization_config",
    "sliding_window", "use_sliding_window", "layer_types",
    # provenance, types of storage, what only training, generation or pooling use
    "architectures", "auto_map", "transformers_version", "torch_dtype", "dtype", "name_or_path", "_name_or_path",
    "_commit_hash", "_attn_implementation", "_attn_implementation_autoset", "attn_implementation", "unsloth_version",
    "unsloth_fixed", "unsloth_training", "attention_dropout", "hidden_dropout", "initializer_range", "use_cache",
    "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "decoder_start_token_id", "pretraining_tp",
    "output_attentions", "output_hidden_states", "output_router_logits", "output_scores", "router_aux_loss_coef",
    "router_jitter_noise", "return_dict", "return_dict_in_generate", "torchscript", "use_bfloat16", "pruned_heads",
    "chunk_size_feed_forward", "is_encoder_decoder", "is_decoder", "add_cross_attention", "cross_attention_hidden_size",
    "tie_encoder_decoder", "max_length", "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups",
    "diversity_penalty", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty", "length_penalty",
    "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences", "tf_legacy_loss",
    "forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values", "exponential_decay_length_penalty",
    "suppress_tokens", "begin_suppress_tokens", "finetuning_task", "id2label", "label2id", "num_labels",
    "tokenizer_class", "prefix", "task_specific_params", "problem_type", "max_window_layers",
})  # fmt: skip

LLAMA = COMMON | {"mlp_bias"}
MISTRAL = COMMON
QWEN3 = COMMON
QWEN3_MOE = COMMON | {
    "num_experts", "num_local_experts", "num_experts_per_tok", "moe_intermediate_size", "norm_topk_prob",
    "decoder_sparse_step", "mlp_only_layers",
}  # fmt: skip
GLM4 = COMMON
GLM4_MOE = COMMON | {
    "n_routed_experts", "num_experts", "num_local_experts", "num_experts_per_tok", "n_shared_experts", "n_group",
    "topk_group", "norm_topk_prob", "routed_scaling_factor", "first_k_dense_replace", "moe_intermediate_size",
    "use_qk_norm", "num_nextn_predict_layers", "scoring_func", "topk_method", "moe_layer_freq", "ep_size",
    "aux_loss_alpha", "seq_aux", "load_balance_coeff", "use_grouped_mm",
}  # fmt: skip
