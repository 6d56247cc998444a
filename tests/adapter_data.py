"""The real files the adapters are tested on: (path, adapter, kind, rows, drafts, rows that cannot be used)."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import yaml

FILES: list[tuple[str, str, str, int, int, int]] = [
    ("code/codet_humaneval_codegen16B_100samples.jsonl.gz", "sampled_programs", "code", 164, 164, 0),
    ("code/cruxeval.jsonl.gz", "cruxeval", "code", 800, 800, 0),
    ("code/deepseek_leetcode_contest_180.jsonl.gz", "humaneval", "code", 180, 180, 0),
    ("code/exercism_python_practice.jsonl.gz", "exercism", "code", 94, 94, 0),
    ("code/humaneval.jsonl.gz", "humaneval", "code", 164, 164, 0),
    ("code/icpc_packages_gcpc2021_2022.jsonl.gz", "icpc_package", "code", 27, 27, 0),
    ("code/icpc_packages_misc_mzuenni.jsonl.gz", "icpc_package", "code", 17, 17, 0),
    ("code/leetcode_dataset_v0.2.0_train.jsonl.gz", "leetcode", "code", 1890, 1890, 0),
    ("code/leetcode_dataset_v0.3.0_test_minus_v0.3.1.jsonl.gz", "leetcode", "code", 198, 198, 0),
    ("code/llmdebugger_humaneval_gpt35.jsonl.gz", "solved_problem", "code", 164, 164, 0),
    ("code/llmdebugger_mbpp_gpt35.jsonl.gz", "solved_problem", "code", 500, 500, 0),
    ("code/llmdebugger_mbpp_starcoder.jsonl.gz", "solved_problem", "code", 500, 500, 0),
    ("code/mbpp_001_600.jsonl.gz", "mbpp", "code", 600, 600, 0),
    ("code/mbpp_plus_v0.1.0_ids_le_600.jsonl.gz", "mbpp_plus", "code", 288, 288, 0),
    ("code/mbxp_javascript.jsonl.gz", "humaneval", "code", 595, 595, 0),
    ("code/pie_codenet_python_pairs_1k.jsonl.gz", "program_rewrite", "sft", 1000, 1000, 0),
    ("code/quixbugs_python.jsonl.gz", "quixbugs", "code", 29, 29, 0),
    ("code/reflexion_leetcode_hard_296.jsonl.gz", "humaneval", "code", 296, 296, 0),
    ("code/sandboxfusion_code_eval_EvoEval.jsonl.gz", "sandboxfusion", "code", 11, 11, 0),
    ("code/sandboxfusion_code_eval_aider_benchmark_v1.jsonl.gz", "sandboxfusion", "code", 5, 5, 0),
    ("code/sandboxfusion_code_eval_bigcodebench.jsonl.gz", "sandboxfusion", "code", 20, 20, 0),
    ("code/sandboxfusion_code_eval_can_it_edit.jsonl.gz", "sandboxfusion", "code", 20, 20, 0),
    ("code/sandboxfusion_code_eval_code_contests.jsonl.gz", "sandboxfusion", "code", 20, 20, 0),
    ("code/sandboxfusion_code_eval_humanevalds_v1_en.jsonl.gz", "sandboxfusion", "code", 26, 26, 0),
    ("code/sandboxfusion_code_eval_live_code_bench_v1.jsonl.gz", "sandboxfusion", "code", 3, 3, 0),
    ("code/sandboxfusion_code_eval_mhpp.jsonl.gz", "sandboxfusion", "code", 20, 20, 0),
    ("code/sandboxfusion_code_eval_oodtest_v1_zh.jsonl.gz", "sandboxfusion", "code", 10, 10, 0),
    ("code/sandboxfusion_code_eval_rl_train_oj_0328_1707.jsonl.gz", "sandboxfusion", "code", 20, 20, 0),
    ("code/sandboxfusion_code_eval_shadow_humaneval_python.jsonl.gz", "sandboxfusion", "code", 20, 20, 0),
    ("code/sandboxfusion_multiple_humaneval_js_rs_cpp.jsonl.gz", "multipl_e", "code", 478, 478, 0),
    ("instruct/alpaca_52k_rows_00000_42147.jsonl.gz", "alpaca", "sft", 42148, 42148, 0),
    ("instruct/alpaca_chinese_part00.jsonl.gz", "alpaca", "sft", 10021, 10021, 0),
    ("instruct/alpaca_data_cleaned_first_1000.jsonl.gz", "alpaca", "sft", 1000, 1000, 0),
    ("instruct/alpaca_eval_gpt4_preferences.jsonl.gz", "alpaca_eval", "preference", 1190, 1190, 0),
    ("instruct/alpagasus_claude_t45.jsonl.gz", "alpaca", "sft", 4323, 4323, 0),
    ("instruct/alpagasus_random_9k.jsonl.gz", "alpaca", "sft", 7474, 7474, 0),
    ("instruct/anthropic_persona_evals.jsonl.gz", "persona_eval", "preference", 21852, 21852, 0),
    ("instruct/arena_hard_v0.1_gpt4_answers.jsonl.gz", "messages", "sft", 500, 500, 0),
    ("instruct/cherry_alpaca_5_percent.jsonl.gz", "alpaca", "sft", 2067, 2067, 0),
    ("instruct/code_alpaca_2k.jsonl.gz", "alpaca", "sft", 2017, 2017, 0),
    ("instruct/dolly_3k_part1.jsonl.gz", "alpaca", "sft", 2000, 2000, 0),
    ("instruct/evol_teacher_converted_alpaca_2k.jsonl.gz", "alpaca", "sft", 2017, 2017, 0),
    ("instruct/fastchat_dummy_conversation.jsonl.gz", "sharegpt", "sft", 500, 500, 0),
    ("instruct/fireact_multitask_alpaca_format.jsonl.gz", "alpaca", "sft", 1344, 1344, 0),
    ("instruct/gorilla_apibench_torchhub_train.jsonl.gz", "gorilla", "sft", 837, 837, 0),
    ("instruct/gpteacher_codegen.jsonl.gz", "alpaca", "sft", 4535, 4535, 0),
    ("instruct/gpteacher_roleplay.jsonl.gz", "alpaca", "sft", 1923, 1923, 0),
    ("instruct/gpteacher_toolformer_dedupe-only.jsonl.gz", "alpaca", "sft", 7673, 7673, 0),
    ("instruct/gpteacher_toolformer_similarity-0.6.jsonl.gz", "alpaca", "sft", 2396, 2396, 0),
    ("instruct/gpteacher_toolformer_similarity-0.7.jsonl.gz", "alpaca", "sft", 3487, 3487, 0),
    ("instruct/gpteacher_toolformer_similarity-0.8.jsonl.gz", "alpaca", "sft", 4709, 4709, 0),
    ("instruct/gpteacher_toolformer_similarity-0.9.jsonl.gz", "alpaca", "sft", 5959, 5959, 0),
    ("instruct/llamafactory_alpaca_en_demo.jsonl.gz", "alpaca", "sft", 797, 797, 0),
    ("instruct/llamafactory_alpaca_zh_demo.jsonl.gz", "alpaca", "sft", 1000, 1000, 0),
    ("instruct/llamafactory_dpo_en_demo.jsonl.gz", "preference", "preference", 300, 300, 0),
    ("instruct/llamafactory_glaive_toolcall_en_demo.jsonl.gz", "sharegpt", "sft", 300, 300, 0),
    ("instruct/llamafactory_identity.jsonl.gz", "alpaca", "sft", 91, 91, 0),
    ("instruct/llamafactory_kto_en_demo.jsonl.gz", "kto", "preference", 300, 300, 0),
    ("instruct/llamafactory_v1_sft_demo.jsonl.gz", "messages", "sft", 500, 500, 0),
    ("instruct/natural_instructions_tasks.jsonl.gz", "natural_instructions", "sft", 159, 18969, 0),
    ("instruct/new_codealpaca.jsonl.gz", "alpaca", "sft", 4535, 4535, 0),
    ("instruct/oasst_en_100_messages.jsonl.gz", "oasst_message", "sft", 100, 626, 0),
    ("instruct/oasst_en_100_trees.jsonl.gz", "oasst_tree", "sft", 100, 626, 0),
    ("instruct/pandalm_testset.jsonl.gz", "pandalm", "preference", 999, 993, 6),
    ("instruct/self_instruct_predictions_davinci.jsonl.gz", "alpaca", "sft", 252, 252, 0),
    ("instruct/self_instruct_predictions_text-davinci-003.jsonl.gz", "alpaca", "sft", 252, 252, 0),
    ("instruct/self_instruct_seed_tasks.jsonl.gz", "self_instruct", "sft", 175, 175, 0),
    ("instruct/self_instruct_user_oriented.jsonl.gz", "self_instruct", "sft", 252, 252, 0),
    ("neardup/ir_plag_java_cases_1_4.jsonl.gz", "code_file", "text", 264, 264, 0),
    ("neardup/mccormick_articles_1000.jsonl.gz", "text", "text", 1000, 1000, 0),
    ("raw_formats/HumanEval.jsonl.gz", "humaneval", "code", 164, 164, 0),
    ("raw_formats/alpaca_data-0-3252.json", "alpaca", "sft", 3252, 3252, 0),
    ("raw_formats/fastchat_dummy_conversation.json", "sharegpt", "sft", 500, 500, 0),
    ("raw_formats/gpteacher_roleplay.yaml", "alpaca", "sft", 1923, 1923, 0),
    ("raw_formats/logic_rl_kk_3ppl_train.parquet", "verifiable_task", "trajectory", 900, 900, 0),
    ("raw_formats/mccormick_articles_1000.train", "text", "text", 1000, 1000, 0),
    ("raw_formats/opengpt_prepared_generated.csv", "tagged_chat", "sft", 306, 306, 0),
    ("rawtext/c4_demo.jsonl.gz", "text", "text", 300, 300, 0),
    ("rawtext/code_llamafactory_4_forks.jsonl.gz", "code_file", "text", 698, 698, 0),
    ("rawtext/code_lm_eval_2_forks.jsonl.gz", "code_file", "text", 961, 961, 0),
    ("rawtext/code_thealgorithms_python.jsonl.gz", "code_file", "text", 1164, 1164, 0),
    ("rawtext/toy_pile.jsonl.gz", "text", "text", 1000, 1000, 0),
    ("rawtext/wiki_demo.jsonl.gz", "text", "text", 30, 30, 0),
    ("rawtext/wikitext2_test_articles.jsonl.gz", "text", "text", 62, 62, 0),
    ("targets/gsm8k_model_solutions_part1.jsonl.gz", "model_solutions", "preference", 660, 2640, 0),
    ("targets/gsm8k_test_part1.jsonl.gz", "gsm8k", "sft", 660, 660, 0),
    ("targets/gsm8k_train.jsonl.gz", "gsm8k", "sft", 7473, 7473, 0),
    ("targets/humaneval_prompts.jsonl.gz", "problem_prompt", "sft", 164, 164, 0),
    ("targets/math_test_part1.jsonl.gz", "math", "sft", 2528, 2528, 0),
    ("targets/minif2f_informal_valid.jsonl.gz", "informal_proof", "sft", 244, 244, 0),
    ("targets/minif2f_lean4_valid.jsonl.gz", "formal_statement", "sft", 244, 244, 0),
    ("targets/proofnet_lean4_valid.jsonl.gz", "formal_statement", "sft", 185, 185, 0),
    ("targets/proofnet_valid.jsonl.gz", "formal_statement", "sft", 185, 185, 0),
    ("traces/deepseek_pcmb_traces_part1.jsonl.gz", "multiple_choice_trace", "sft", 248, 248, 0),
    ("traces/fireact_hotpotqa_trajs_part1.jsonl.gz", "fireact", "trajectory", 675, 675, 0),
    ("traces/intercode_bash_gpt.jsonl.gz", "intercode", "trajectory", 1214, 1214, 0),
    ("traces/llamafactory_reason_tool_use_50.jsonl.gz", "messages", "sft", 50, 50, 0),
    ("traces/mint_gpt35_codellama34b.jsonl.gz", "mint", "trajectory", 654, 654, 0),
    ("traces/qwen_math_cot_100.jsonl.gz", "scored_samples", "preference", 100, 800, 0),
    ("traces/reflexion_humaneval_mbpp_gpt4.jsonl.gz", "solved_problem", "code", 561, 561, 0),
    ("traces/self_refine_yelp_gpt4_part1.jsonl.gz", "self_refine", "sft", 1633, 1633, 0),
    ("traces/swe_agent_demonstrations.jsonl.gz", "swe_agent", "trajectory", 10, 10, 0),
    ("traces/tau_bench_gpt4o_airline_part1.jsonl.gz", "tau_bench", "trajectory", 140, 140, 0),
    ("traces/webdancer_trajectories_part1.jsonl.gz", "web_agent", "trajectory", 140, 140, 0),
]  # fmt: skip


def load(path: Path) -> list[Any]:
    """Decoded rows of a file, read as plainly as possible: ingest has its own readers and tests."""
    if path.suffix == ".parquet":
        rows: list[Any] = pq.read_table(path).to_pylist()
        return rows
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if path.suffix == ".gz":
        return [_decode(line) for line in data.split(b"\n") if line]
    if path.suffix == ".csv":
        return list(csv.DictReader(data.decode().splitlines(keepends=True)))
    if path.suffix == ".yaml":
        return list(yaml.load(data, yaml.CSafeLoader))
    if path.suffix == ".train":
        return [
            dict(zip(("id", "text"), line.split(" ", 1), strict=True)) for line in data.decode().split("\n") if line
        ]
    return list(orjson.loads(data))


def _decode(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:  # EvalPlus writes -Infinity
        return json.loads(line)
