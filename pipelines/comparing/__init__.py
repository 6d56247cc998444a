"""Which selection is best for these data: the same small model trained on what each selector keeps, several times.

    compare(Comparison(pool={"rows": "rows.jsonl"}, targets={"maths": "gsm8k.jsonl"}, keep=0.1), settings)

plan.py says what is compared, sets.py splits targets so that nothing leaks, selectors.py and selecting.py run recipes
of the ordinary kind, proxy.py and training.py hold the model, measures.py says what selections look like, and run.py
puts it together. What is found is plain data; `reports.compare` judges it.
"""

from pipelines.comparing.plan import Comparison, Training, comparison
from pipelines.comparing.run import FOUND, Places, compare

__all__ = ["FOUND", "Comparison", "Places", "Training", "compare", "comparison"]
